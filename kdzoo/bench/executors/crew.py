"""What workers tell the process that leads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from kdzoo.bench.executors.jobs import Job
from kdzoo.bench.lab import Expected
from kdzoo.record import Epoch


@dataclass(frozen=True)
class Began:
    """A worker took up a job."""

    token: int


@dataclass(frozen=True)
class Stepped:
    """A step of the training is done; not every one is told."""

    token: int
    epoch: int
    done: int
    steps: int


@dataclass(frozen=True)
class EpochEnded:
    """An epoch is done, and measured on tune where that was asked after it."""

    token: int
    line: Epoch
    epochs: int


@dataclass(frozen=True)
class Ended:
    """A job gave its result."""

    token: int
    result: Any


@dataclass(frozen=True)
class Died:
    """The process that ran a job is gone; ``machine`` where its whole machine is, which no cell can be blamed for."""

    token: int
    reason: str
    machine: bool = False


@dataclass(frozen=True)
class Said:
    """A line for the person; several workers may say the same."""

    token: int
    line: str


Event: TypeAlias = Began | Stepped | EpochEnded | Ended | Died | Said


class Crew(Protocol):
    """Processes that do jobs, here or elsewhere."""

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


class Telling:
    """The :class:`~kdzoo.engine.train.Watch` of a worker: epochs are told each, steps now and then.

    Args:
        token: the job.
        tell: takes the event.
        pause: least seconds between two steps that are told.
    """

    def __init__(self, token: int, tell: Callable[[Event], None], pause: float) -> None:
        self._token, self._tell, self._pause = token, tell, pause
        self._told = 0.0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """See :class:`~kdzoo.engine.train.Watch`."""
        now = time.monotonic()
        if now - self._told >= self._pause:
            self._told = now
            self._tell(Stepped(self._token, epoch, done, steps))

    def epoch(self, line: Epoch, epochs: int) -> None:
        """See :class:`~kdzoo.engine.train.Watch`."""
        self._tell(EpochEnded(self._token, line, epochs))
