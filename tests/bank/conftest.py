"""Benches in miniature that read the bank: the same dataset, plugins and teacher as in the engine's tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from small_lab import run


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a trained teacher, as ``--teacher-weights`` takes them."""
    bench = run(tmp_path_factory.mktemp("teacher"), [], teacher_epochs=6, epochs=1)
    return str(bench.folder(bench.records[0]) / "student.safetensors")
