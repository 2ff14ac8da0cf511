"""What two ranks do in these tests, and one process does to compare: cells of the small lab, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hard_strategies import HARD
from small_lab import make_registry
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from kdzoo.bench import run as bench_run
from kdzoo.bench.lab import Lab
from kdzoo.bench.run import follow_cell, run_cell
from kdzoo.cell import Cell
from kdzoo.data.load import open_data
from kdzoo.engine.course import Unwatched
from kdzoo.engine.train import Training
from kdzoo.engine.world import World
from kdzoo.models.weights import file_digest
from kdzoo.record import Record
from kdzoo.store import Store


@dataclass(frozen=True)
class Trained:
    """A cell that was trained: its record (on rank 0), and the last state of what was trained."""

    record: Record | None
    state: dict[str, Tensor]
    average: dict[str, Tensor]
    overlapped: bool


@contextmanager
def double() -> Iterator[None]:
    """Networks are made in float64: what is left of a difference is one of the mathematics."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


_labs: dict[Path, Lab] = {}
"""A lab for each store, with its teacher and data."""


def _lab(out: Path, teacher: str) -> Lab:
    if out not in _labs:
        registry = make_registry(*HARD)
        data = open_data("quadrants", registry.find_dataset)
        files = {file_digest(Path(teacher)): Path(teacher)}
        _labs[out] = Lab(Store.create(out), registry, torch.device("cpu"), {data.ref: data}, files)
    return _labs[out]


def train(world: World, out: Path, teacher: str, cell: Cell) -> Trained:
    """Train a cell in a store."""
    kept: list[Training] = []

    class Kept(Training):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self)

    with double(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_run, "Training", Kept)
        lab = _lab(out, teacher)
        lab.train_in(world)
        record = run_cell(cell, lab, Unwatched(), "failed") if world.leads else follow_cell(cell, lab)
    average = kept[-1].average.state_dict() if kept and kept[-1].average else {}
    overlapped = bool(kept) and isinstance(kept[-1].model, DistributedDataParallel)
    return Trained(record, _tensors(kept[-1].distiller.state_dict()), _tensors(average), overlapped)


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}
