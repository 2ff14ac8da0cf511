"""Two processes that work together, and what the engine's tests have: a dataset, plugins and a teacher."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
sys.path.insert(0, str(Path(__file__).parent))

from rank_pair import Pair
from small_lab import run


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """Two processes, which wait for what they shall do."""
    with Pair() as both:
        yield both


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a trained teacher, as ``--teacher-weights`` takes them."""
    bench = run(tmp_path_factory.mktemp("taught"), [], teacher_epochs=6, epochs=1)
    return str(bench.folder(bench.records[0]) / "student.safetensors")
