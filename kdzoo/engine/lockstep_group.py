"""Trainings in lockstep: they see the same batches, and one pass of their teacher over each serves them all.

How many go together depends on the memory that each needs, which is estimated before it begins.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from kdzoo.cell import Cell
from kdzoo.declarations import Phase, Signal, Signature, rows_of_sample, student_signals
from kdzoo.engine.bank.signal_sources import GiveSignals, OnTheFly, give_nothing
from kdzoo.engine.course import Feed
from kdzoo.engine.distiller import Distiller, teach
from kdzoo.outputs import Batch, Outputs, only
from kdzoo.recipe import Recipe
from kdzoo.refs import DataRef

_MOMENTS = 2
"""Values that an optimizer keeps of a parameter: SGD keeps one, Adam two."""
_SAMPLES = 2
_FLOAT = 4


class SharedFeed:
    """A feed for trainings that see the same batches and never are more than one step apart.

    Args:
        own: makes the batches.
    """

    def __init__(self, own: Feed) -> None:
        self._own = own
        self._epochs: WeakValueDictionary[int, _Latest] = WeakValueDictionary()

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, each made when the first of the trainings asks for it."""
        # Kept alive by the trainings that read it, and forgotten with the last of them.
        latest = self._epochs.get(epoch) or self._epochs.setdefault(epoch, _Latest(self._own(epoch)))
        return self._read(latest)

    @staticmethod
    def _read(latest: _Latest) -> Iterator[Batch]:
        step = 0
        while (batch := latest.take(step)) is not None:
            yield batch
            step += 1


class _Latest:
    """The last batch that was made of an epoch."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._step, self._batch = -1, None  # type: int, Batch | None

    def take(self, step: int) -> Batch | None:
        """The batch of a step: the last one again, or the next one; None behind the end of the epoch.

        Raises:
            RuntimeError: it is gone, or its turn has not come.
        """
        if step == self._step + 1:
            self._step, self._batch = step, next(self._batches, None)
        elif step != self._step:
            raise RuntimeError(f"step {step} was asked for at step {self._step} of a shared epoch")
        return self._batch


class LockstepGroup:
    """The trainings that go in lockstep; each has the same teacher and gets equal batches."""

    def __init__(self) -> None:
        self.members: list[str] = []
        self._feed: SharedFeed | None = None
        self._wanted: dict[str, frozenset[Signal]] = {}
        self._inputs: Any = None
        self._outputs: Outputs | None = None

    def join(self, cell: Cell, loop: OnTheFly, feed: Feed) -> tuple[SharedLoop, Feed]:
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

    def outputs(self, loop: OnTheFly, batch: Batch) -> Outputs:
        """All signals that are wanted of a batch. The first training that asks has them computed."""
        if self._outputs is None or self._inputs is not batch.inputs:
            signals = frozenset[Signal]().union(*self._wanted.values())
            self._inputs, self._outputs = batch.inputs, teach(loop.teacher, signals, batch)
        return self._outputs


class SharedLoop:
    """The :class:`~kdzoo.engine.bank.signal_sources.SignalSource` of a training in lockstep.

    Args:
        lockstep: the trainings.
        member: id of the cell.
        loop: the teacher, for this training alone.
    """

    def __init__(self, lockstep: LockstepGroup, member: str, loop: OnTheFly) -> None:
        self.lockstep, self.member, self.loop = lockstep, member, loop

    def open(self, phase: Phase, view: int) -> GiveSignals:
        """See :class:`~kdzoo.engine.bank.signal_sources.SignalSource`."""
        self.lockstep.want(self.member, self.loop.signals if phase.teacher else frozenset())
        return self._teach if phase.teacher else give_nothing

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Outputs:
        return self.loop.strategy.reduce(only(self.lockstep.outputs(self.loop, batch), self.loop.signals))

    def summary(self) -> str:
        """See :class:`~kdzoo.engine.bank.signal_sources.SignalSource`."""
        count = len(self.lockstep.members)
        return f"one pass on the fly for {count} cells" if count > 1 else ""


class GeneratorState:
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


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a training needs.

    Args:
        kept: from its beginning to its end.
        passing: during a step, or while a checkpoint is written.
    """

    kept: int
    passing: int


def estimate_memory(distiller: Distiller, teacher: Signature | None, recipe: Recipe, data: DataRef) -> MemoryEstimate:
    """Estimate what a training needs, by a forward pass over two images.

    Args:
        distiller: student and strategy, on the CPU.
        teacher: the shapes of its signals, for those of one batch; None without a teacher.
        recipe: batch size and moving average.
        data: size of the images.
    """
    trained = _bytes(parameter for parameter in distiller.parameters() if parameter.requires_grad)
    weights = _bytes([*distiller.parameters(), *distiller.buffers()])
    averaged = _bytes(distiller.student.parameters()) if recipe.ema else 0
    kept = weights + _MOMENTS * trained + averaged
    batch = recipe.batch_size * rows_of_sample(distiller.strategy)
    signals = _FLOAT * batch * _values(teacher) if teacher else 0
    step = trained + batch * _saved_bytes(distiller, data) // _SAMPLES + signals
    return MemoryEstimate(kept, max(step, kept))


def _values(signature: Signature) -> int:
    """Numbers in all signals of one sample."""
    maps = sum(stage.channels * stage.height * stage.width for stage in signature.stages)
    return maps + signature.embedding + signature.num_classes


def _saved_bytes(distiller: Distiller, data: DataRef) -> int:
    """What a forward pass over two images leaves for the backward pass, beside the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in distiller.parameters()}
    # Held here, so that no storage is freed and its place counted for another one.
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            found[place] = tensor
        return tensor

    images = torch.zeros(_SAMPLES, data.channels, *data.img_size)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        distiller.student(images, student_signals(distiller.strategy))
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
