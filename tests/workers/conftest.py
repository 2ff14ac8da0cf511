"""One plugin file, and one bench of a single process, for all tests of executors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from toy_bench import PLUGIN, SMALL, Result, kdzoo

TUNED = ("--strategies", "nudge,soft", "--seeds", 2, "--tune", 4, "--tune-batch", 2, "--tune-epochs", 3)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test works in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "toy.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(scope="session")
def small(plugin: Path) -> tuple[Any, ...]:
    """Arguments of a bench that takes about a second."""
    return ("bench", "--plugin", plugin, *SMALL)


@pytest.fixture(scope="session")
def tuned(small: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of a bench with two studies, whose trials run two at a time and may be pruned."""
    return (*small, *TUNED, "--pruner", "hyperband")


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, tuned: tuple[Any, ...]) -> tuple[Path, Result]:
    """The runs of that bench in one process, and what it said."""
    out = tmp_path_factory.mktemp("alone") / "runs"
    return out, kdzoo(*tuned, "--out", out)
