"""Trainings in lockstep: they see the same batches, so that one pass of their teacher over each serves them all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from kdzoo.cell import Cell
from kdzoo.engine.bank.runner import only
from kdzoo.engine.bank.sources import Lesson, Loop, no_lesson
from kdzoo.engine.distiller import teach
from kdzoo.engine.feed import Feed, SharedFeed
from kdzoo.strategy import Batch, Outputs, Phase, Signal


class Company:
    """The trainings that go in lockstep; each has the same teacher and gets equal batches."""

    def __init__(self) -> None:
        self.members: list[str] = []
        self._feed: SharedFeed | None = None
        self._wanted: dict[str, frozenset[Signal]] = {}
        self._inputs: Any = None
        self._outputs: Outputs | None = None

    def join(self, cell: Cell, loop: Loop, feed: Feed) -> tuple[SharedLoop, Feed]:
        """Take in the training of a cell; gives where it gets its signals and batches from.

        Args:
            cell: what is trained.
            loop: the teacher, for this cell alone.
            feed: the batches, for this cell alone.
        """
        self._feed = self._feed or SharedFeed(feed)
        self.members.append(cell.id)
        return SharedLoop(self, cell.id, loop), self._feed

    def leave(self, cell: Cell) -> None:
        """A training has ended; the teacher need not give what it alone asked for."""
        self._wanted.pop(cell.id, None)

    def want(self, member: str, signals: frozenset[Signal]) -> None:
        """What a training needs of the teacher from now on; nothing after its end."""
        self._wanted[member] = signals

    def outputs(self, loop: Loop, batch: Batch) -> Outputs:
        """All signals that are wanted of a batch. The first training that asks has them computed."""
        if self._outputs is None or self._inputs is not batch.inputs:
            signals = frozenset[Signal]().union(*self._wanted.values())
            self._inputs, self._outputs = batch.inputs, teach(loop.teacher, signals, batch)
        return self._outputs


class SharedLoop:
    """The :class:`~kdzoo.engine.bank.sources.Source` of a training in lockstep.

    Args:
        company: the trainings.
        member: id of the cell.
        loop: the teacher, for this training alone.
    """

    def __init__(self, company: Company, member: str, loop: Loop) -> None:
        self.company, self.member, self.loop = company, member, loop

    def open(self, phase: Phase, view: int) -> Lesson:
        """See :class:`~kdzoo.engine.bank.sources.Source`."""
        self.company.want(self.member, self.loop.signals if phase.teacher else frozenset())
        return self._teach if phase.teacher else no_lesson

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Outputs:
        return self.loop.strategy.reduce(only(self.company.outputs(self.loop, batch), self.loop.signals))

    def told(self) -> str:
        """See :class:`~kdzoo.engine.bank.sources.Source`."""
        count = len(self.company.members)
        return f"one pass in the loop for {count} cells" if count > 1 else ""


class Draws:
    """The state of the global generators as one training left them, while others draw from them."""

    def __init__(self) -> None:
        self._state = _generators()

    @contextmanager
    def here(self) -> Iterator[None]:
        """The training goes on from its own state in the ``with`` block; behind it, all is as it was before."""
        outer = _generators()
        _restore(self._state)
        try:
            yield
        finally:
            self._state = _generators()
            _restore(outer)


def _generators() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def _restore(state: tuple[Any, ...]) -> None:
    own, cuda, numpy, python = state
    torch.set_rng_state(own)
    if cuda is not None:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy)
    random.setstate(python)
