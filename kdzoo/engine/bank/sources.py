"""Where a training gets the teacher's signals from: the teacher itself, in the loop, or the bank."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from kdzoo.engine.bank.group import Group
from kdzoo.engine.bank.needs import view_numbers
from kdzoo.engine.bank.probe import Reader
from kdzoo.engine.distiller import NOTHING, teach
from kdzoo.models.teacher import Teacher
from kdzoo.signals import teacher_signals
from kdzoo.strategy import Batch, Outputs, Phase, Strategy

Lesson = Callable[[Batch], Outputs]
"""Gives the signals of a batch, reduced as the strategy asks."""

DEVICE_BYTES = 2**30
"""Views that are smaller stand on the accelerator while an epoch reads them, so that reading does not make it wait."""


class Source(Protocol):
    """Who teaches one training."""

    def open(self, phase: Phase, view: int) -> Lesson:
        """Get ready for an epoch.

        Args:
            phase: the phase; one that needs no teacher gets no signals.
            view: the number of the view that all of its batches show.
        """

    def told(self) -> str:
        """What the record shall say of it; empty where the teacher ran in the loop."""


class Loop:
    """The teacher runs on each batch.

    Args:
        teacher: the frozen teacher, or None.
        strategy: says what it needs.
    """

    def __init__(self, teacher: Teacher | None, strategy: Strategy) -> None:
        self.teacher, self.strategy = teacher, strategy
        self.signals = teacher_signals(strategy) if teacher is not None else frozenset()

    def open(self, phase: Phase, view: int) -> Lesson:
        """See :class:`Source`."""
        return self._teach if phase.teacher and self.signals else no_lesson

    def _teach(self, batch: Batch) -> Outputs:
        with torch.no_grad():
            return self.strategy.reduce(teach(self.teacher, self.signals, batch))

    def told(self) -> str:
        """See :class:`Source`."""
        return ""


def no_lesson(batch: Batch) -> Outputs:
    """The :data:`Lesson` where the teacher is silent."""
    return NOTHING


class Banked:
    """Signals are read from the bank. A view that is not there is made first; where that fails, the teacher runs.

    Args:
        group: the pass.
        reader: what is read of it.
        loop: in the place of views that cannot be had.
        trouble: is told what the system said when a view could not be written.
    """

    def __init__(self, group: Group, reader: Reader, loop: Loop, trouble: Callable[[OSError], None]) -> None:
        self.group, self.reader, self.loop, self.trouble = group, reader, loop, trouble
        self.versions = loop.strategy.views
        self._read: set[str] = set()
        self._epochs = self._in_loop = 0

    def open(self, phase: Phase, view: int) -> Lesson:
        """See :class:`Source`."""
        if not phase.teacher:
            return no_lesson
        self._epochs += 1
        numbers = [self.group.owner.number(each) for each in view_numbers(self.versions, view)]
        arrays = self._arrays(numbers)
        if arrays is None:
            self._in_loop += 1
            return self.loop.open(phase, view)
        return _Reading(arrays, self.reader)

    def _arrays(self, numbers: list[int]) -> list[list[Tensor]] | None:
        """For each entry, its views."""
        later = [number for number in dict.fromkeys(self.reader.numbers) if number > max(numbers)]
        for number in dict.fromkeys(numbers):
            try:
                if not self.group.broken:
                    self.group.make(number, later)
            except OSError as error:
                self.group.broken = True
                self.trouble(error)
        arrays = []
        for _, entry in self.reader.places:
            views = [self.group.view(entry, number) for number in numbers]
            found = [each for each in views if each is not None]
            if len(found) < len(numbers):
                return None
            kept = str(found[0].dtype).removeprefix("torch.")
            self._read.add(f"{entry.text} {kept}")
            arrays.append(found)
        return self._on_device(arrays)

    def _on_device(self, arrays: list[list[Tensor]]) -> list[list[Tensor]]:
        device = self.group.runner.device
        if device.type == "cpu" or sum(each.nbytes for views in arrays for each in views) > DEVICE_BYTES:
            return arrays
        return [[each.to(device) for each in views] for views in arrays]

    def told(self) -> str:
        """See :class:`Source`."""
        if not self._read:
            return ""
        form = self.group.shelf.form if self.group.shelf else "off"
        loop = f"; {self._in_loop} of {self._epochs} epochs in the loop" if self._in_loop else ""
        return f"{form}: {', '.join(sorted(self._read))}{loop}"


class _Reading:
    """The lessons of one epoch."""

    def __init__(self, arrays: list[list[Tensor]], reader: Reader) -> None:
        self._parts = [
            (place, views, getattr(torch, entry.given))
            for views, (place, entry) in zip(arrays, reader.places, strict=True)
        ]
        self._constants = reader.constants

    def __call__(self, batch: Batch) -> Outputs:
        values: dict[str, Any] = dict(self._constants)
        tuples: dict[str, list[Tensor]] = {}
        for place, views, dtype in self._parts:
            tensor = _gather(views, batch.index, dtype)
            if place.position is None:
                values[place.name] = tensor
            else:
                tuples.setdefault(place.name, []).append(tensor)
        return Outputs(values | {name: tuple(each) for name, each in tuples.items()}, reduced=True)


def _gather(views: list[Tensor], index: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows of a batch, whose versions stand one after another, each in a view of its own."""
    here = index.to(views[0].device)
    rows = [view.index_select(0, part) for view, part in zip(views, here.chunk(len(views)), strict=True)]
    joined = rows[0] if len(rows) == 1 else torch.cat(rows)
    return joined.to(device=index.device, dtype=dtype, non_blocking=True)
