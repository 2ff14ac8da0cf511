"""One plugin file, and one bench of a single process, for all tests of executors."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE

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


@pytest.fixture(scope="module")
def node_folder() -> Iterator[Path]:
    """Where Ray's nodes keep their files, and where deaths are ordered; set for all processes that are started."""
    # Ray makes sockets below it, whose paths may have 107 bytes: those of pytest are longer, and TMPDIR may be.
    short = Path(tempfile.gettempdir()) if len(tempfile.gettempdir()) < 40 else Path("/tmp")
    with (
        tempfile.TemporaryDirectory(prefix="node-", dir=short, ignore_cleanup_errors=True) as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TOY_DEATHS", str(Path(name) / "deaths"))
        patch.setenv("TMPDIR", name)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_register_timeout_seconds", str(int(PATIENCE)))
        yield Path(name)
