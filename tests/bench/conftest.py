"""Benches in miniature: the same dataset, plugins and teacher as in the engine's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from real_bench import start
from small_lab import run
from waiting import finish


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a trained teacher, as ``--teacher-weights`` takes them."""
    bench = run(tmp_path_factory.mktemp("teacher"), [], teacher_epochs=6, epochs=1)
    return str(bench.folder(bench.records[0]) / "student.safetensors")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, str, str]]]:
    """A store that two real benches filled at once, and the exit code, output and errors of each."""
    out = tmp_path_factory.mktemp("shared")
    both = [start(out), start(out)]
    told = [finish(process) for process in both]
    return out, [(process.returncode, *each) for process, each in zip(both, told, strict=True)]
