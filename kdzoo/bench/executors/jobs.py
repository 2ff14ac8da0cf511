"""What a worker process is asked to do, and what it sends back."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import psutil
import torch
from torch.nn import functional as F

from kdzoo import foreign
from kdzoo.bench.banking import choose
from kdzoo.bench.lab import Expected, Lab
from kdzoo.bench.run import run_cell
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop, Watch
from kdzoo.errors import raise_if_interrupted
from kdzoo.models.memory_format import lay_out
from kdzoo.models.zoo import create_model
from kdzoo.record import Record
from kdzoo.record_parts import Epoch

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
            raise_if_interrupted(error)
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


@dataclass(frozen=True)
class JobStarted:
    """A worker took up a job."""

    token: int


@dataclass(frozen=True)
class StepDone:
    """A step of the training is done; not every one is told."""

    token: int
    epoch: int
    done: int
    steps: int


@dataclass(frozen=True)
class EpochDone:
    """An epoch is done, and measured on tune where that was asked after it."""

    token: int
    line: Epoch
    epochs: int


@dataclass(frozen=True)
class JobEnded:
    """A job gave its result."""

    token: int
    result: Any


@dataclass(frozen=True)
class Crashed:
    """The process that ran a job is gone; ``machine`` where its whole machine is, which no cell can be blamed for."""

    token: int
    reason: str
    machine: bool = False


@dataclass(frozen=True)
class WorkerLine:
    """A line for the person; several workers may say the same."""

    token: int
    line: str


Event: TypeAlias = JobStarted | StepDone | EpochDone | JobEnded | Crashed | WorkerLine


class WorkerPool(Protocol):
    """Processes that run jobs, here or elsewhere."""

    @property
    def free(self) -> bool:
        """Whether another job may be started now."""

    def threads(self, jobs: int | None = None) -> int:
        """Threads for each of so many jobs, or for each job where there are always more than workers."""

    def expect(self, jobs: int) -> None:
        """So many jobs will come; whoever takes long to start may start now."""

    def share(self, expected: Mapping[str, Expected]) -> None:
        """What :attr:`kdzoo.bench.lab.Lab.expected` holds for the jobs that are started from now on."""

    def start(self, token: int, job: Job) -> None:
        """Have a job done, and tell of it under a number."""

    def wait(self) -> Sequence[Event]:
        """What happened since the last call, once anything did or a moment passed.

        Raises:
            BaseException: what a job raised.
        """


class EventWatch:
    """The :class:`~kdzoo.engine.train.Watch` of a worker: epochs are told each, steps now and then.

    Args:
        token: the job.
        tell: takes the event.
        pause: least seconds between two steps that are told.
    """

    def __init__(self, token: int, tell: Callable[[Event], None], pause: float) -> None:
        self._token, self._tell, self._pause = token, tell, pause
        self._last_step = 0.0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """See :class:`~kdzoo.engine.train.Watch`."""
        now = time.monotonic()
        if now - self._last_step >= self._pause:
            self._last_step = now
            self._tell(StepDone(self._token, epoch, done, steps))

    def epoch(self, line: Epoch, epochs: int) -> None:
        """See :class:`~kdzoo.engine.train.Watch`."""
        self._tell(EpochDone(self._token, line, epochs))
