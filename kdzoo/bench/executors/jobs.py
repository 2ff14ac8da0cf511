"""What a worker is asked to do: run a cell, make a teacher ready, measure a speed."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch
from torch.nn import functional as F

from kdzoo import foreign
from kdzoo.bench.banking import choose
from kdzoo.bench.lab import Lab
from kdzoo.bench.run import run_cell
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop, Watch
from kdzoo.interruption import heed
from kdzoo.models.memory_format import lay_out
from kdzoo.models.zoo import create_model
from kdzoo.record import Record

_MEASURED_SECONDS = 1.5


class Job(Protocol):
    """A callable that pickles. It is handed the worker's lab, and who watches."""

    @property
    def cell(self) -> Cell:
        """The cell that it is about."""

    @property
    def threads(self) -> int:
        """Threads of torch that it runs with."""

    def __call__(self, lab: Lab, watch: Watch) -> object:
        """Do it."""


@dataclass(frozen=True)
class RunCell:
    """Run a cell; None where another process runs it and ``wait`` is not set. See :func:`kdzoo.bench.run.run_cell`.

    Args:
        cell: what to run.
        threads: of torch.
        rerun: which finished cells run again.
        stop: who may end it early.
        wait: wait where another process runs it.
    """

    cell: Cell
    threads: int
    rerun: Rerun
    stop: Stop | None = None
    wait: bool = False

    def __call__(self, lab: Lab, watch: Watch) -> Record | None:
        """Do it."""
        return run_cell(self.cell, lab, watch, self.rerun, wait=self.wait, stop=self.stop)


@dataclass(frozen=True)
class ReadyTeacher:
    """Measure the teacher of a cell, and tell what the bank keeps of its passes, before any cell needs it."""

    cell: Cell
    threads: int

    def __call__(self, lab: Lab, watch: Watch) -> str:
        """Do it; gives the reason where the teacher cannot teach."""
        try:
            lab.teacher(self.cell)
            choose(self.cell, lab)
        except BaseException as error:  # each cell of this teacher will meet it again, and record it
            heed(error)
            return foreign.sentence(error)
        return ""


@dataclass(frozen=True)
class GetReady:
    """Nothing more than what comes before every job: the worker is up, the data of the cell are open."""

    cell: Cell
    threads: int

    def __call__(self, lab: Lab, watch: Watch) -> None:
        """Do it."""


@dataclass(frozen=True)
class Speed:
    """Images per second of plain training, and bytes of resident memory, of one process."""

    images: float
    memory: int


@dataclass(frozen=True)
class TimeStudent:
    """Train the student of a cell for a moment, without teacher and schedule."""

    cell: Cell
    threads: int

    def __call__(self, lab: Lab, watch: Watch) -> Speed:
        """Do it."""
        cell, data = self.cell, lab.data[self.cell.data]
        model = create_model(cell.student, data.ref, data.mean, data.std, own_input=cell.starts_pretrained)
        model = model.to(lab.device).train()
        lay_out(model, lab.device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
        images = steps = 0
        began = time.perf_counter()
        for view in itertools.count():
            for batch in data.train_batches(cell.recipe, view=view, order_seed=0, device=lab.device):
                if steps == 1:  # the first one allocates
                    images, began = 0, time.perf_counter()
                torch.autograd.backward(F.cross_entropy(model(batch.inputs, {"logits"}).logits, batch.labels))
                optimizer.step()
                optimizer.zero_grad()
                images += len(batch.labels)
                steps += 1
                seconds = time.perf_counter() - began
                if steps > 2 and seconds > _MEASURED_SECONDS:
                    return Speed(images / seconds, psutil.Process().memory_info().rss)
        raise RuntimeError("an epoch follows every epoch")
