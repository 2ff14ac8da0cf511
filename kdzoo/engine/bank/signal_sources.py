"""Where a training gets the teacher's signals from: the teacher itself, on the fly, or the bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from kdzoo.declarations import Phase, teacher_signals
from kdzoo.engine.bank.needs import view_numbers
from kdzoo.engine.bank.passes import CachedPass, SignalReader
from kdzoo.engine.distiller import NOTHING, teach
from kdzoo.engine.division import Division, overlaps
from kdzoo.models.teacher import Teacher, mean_logits
from kdzoo.outputs import Batch, Outputs
from kdzoo.strategy import Strategy

GiveSignals = Callable[[Batch], Outputs]
"""Gives the signals of a batch, reduced as the strategy asks."""

DEVICE_BYTES = 2**30
"""Views that are smaller stand on the accelerator while an epoch reads them, so that reading does not make it wait."""


class SignalSource(Protocol):
    """Who teaches one training."""

    def open(self, phase: Phase, view: int) -> GiveSignals:
        """Get ready for an epoch.

        Args:
            phase: the phase; one that needs no teacher gets no signals.
            view: the number of the view that all of its batches show.
        """

    def summary(self) -> str:
        """What the record shall say of it; empty where the teacher ran in the loop."""


class OnTheFly:
    """The teacher runs on each batch.

    Args:
        teacher: the frozen teacher, or None.
        strategy: says what it needs.
    """

    def __init__(self, teacher: Teacher | None, strategy: Strategy) -> None:
        self.teacher, self.strategy = teacher, strategy
        self.signals = teacher_signals(strategy) if teacher is not None else frozenset()

    def open(self, phase: Phase, view: int) -> GiveSignals:
        """See :class:`SignalSource`."""
        return self._teach if phase.teacher and self.signals else give_nothing

    def _teach(self, batch: Batch) -> Outputs:
        with torch.no_grad():
            return self.strategy.reduce(teach(self.teacher, self.signals, batch))

    def summary(self) -> str:
        """See :class:`SignalSource`."""
        return ""


def give_nothing(batch: Batch) -> Outputs:
    """The :data:`GiveSignals` where the teacher is silent."""
    return NOTHING


class Banked:
    """Signals are read from the bank. A view that is not there is made first; where that fails, the teacher runs.

    Args:
        group: the pass.
        reader: what is read of it.
        loop: in the place of views that cannot be had.
        trouble: is told what the system said when a view could not be written.
    """

    def __init__(
        self, group: CachedPass, reader: SignalReader, loop: OnTheFly, trouble: Callable[[OSError], None]
    ) -> None:
        self.group, self.reader, self.loop, self.trouble = group, reader, loop, trouble
        self.versions = loop.strategy.views
        self._read: set[str] = set()
        self._epochs = self._in_loop = 0

    def open(self, phase: Phase, view: int) -> GiveSignals:
        """See :class:`SignalSource`."""
        if not phase.teacher:
            return give_nothing
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

    def summary(self) -> str:
        """See :class:`SignalSource`."""
        if not self._read:
            return ""
        form = self.group.shelf.form if self.group.shelf else "off"
        loop = f"; {self._in_loop} of {self._epochs} epochs on the fly" if self._in_loop else ""
        return f"{form}: {', '.join(sorted(self._read))}{loop}"


class _Reading:
    """Gives the signals of one epoch."""

    def __init__(self, arrays: list[list[Tensor]], reader: SignalReader) -> None:
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


class DividedOnTheFly:
    """The :class:`~kdzoo.engine.bank.signal_sources.SignalSource` whose teacher runs on each rank's rows.

    The signals are reduced there, each sample by itself, and only what is left of them is sent around.

    Args:
        loop: the teacher, for whatever rows it is given.
        division: how batches are divided.
    """

    def __init__(self, loop: OnTheFly, division: Division) -> None:
        self.loop, self.division = loop, division

    def open(self, phase: Phase, view: int) -> GiveSignals:
        """See :class:`SignalSource`."""
        signals_of = self.loop.open(phase, view)

        def divided(batch: Batch) -> Outputs:
            return self.division.whole(signals_of(self.division.rows(batch)))

        return divided

    def summary(self) -> str:
        """See :class:`~kdzoo.engine.bank.signal_sources.SignalSource`."""
        return self.loop.summary()


class AsGiven(Strategy):
    """Asks one of several teachers for its logits, and leaves them as they are."""

    @classmethod
    def of(cls, strategy: Strategy) -> AsGiven:
        """With the versions of a sample that a strategy sees."""
        asking = cls(strategy.setup)
        asking.views = strategy.views
        return asking


class Averaged:
    """The :class:`SignalSource` of several teachers, each with a source of its own.

    Args:
        sources: give the logits of each.
        loop: all of them together, on the fly.
    """

    def __init__(self, sources: Sequence[SignalSource], loop: OnTheFly) -> None:
        self.sources, self.loop = sources, loop

    def open(self, phase: Phase, view: int) -> GiveSignals:
        """See :class:`SignalSource`."""
        if not phase.teacher:
            return give_nothing
        each = [source.open(phase, view) for source in self.sources]

        @torch.no_grad()
        def mean(batch: Batch) -> Outputs:
            logits = mean_logits([signals_of(batch).logits for signals_of in each])
            return self.loop.strategy.reduce(Outputs({"logits": logits}))

        return mean

    def summary(self) -> str:
        """See :class:`SignalSource`."""
        return " and ".join(dict.fromkeys(source.summary() or "on the fly" for source in self.sources))


def divided(source: SignalSource, division: Division) -> SignalSource:
    """The source for ranks that train together: the bank, of which each reads the whole batch, or the divided loop.

    The bank is read where every rank decided so. A view that one of them cannot have there is made for it by its own
    teacher, for the whole batch, so that nobody waits for anybody.

    Args:
        source: what this rank alone would use.
        division: how batches are divided.
    """
    banked = isinstance(source, (Banked, Averaged))
    if all(division.world.collect(banked)):
        return source
    loop = source.loop if isinstance(source, (Banked, Averaged)) else source
    if not isinstance(loop, OnTheFly):
        raise TypeError(f"{type(loop).__name__} cannot be divided among processes")
    return loop if overlaps(type(loop.strategy)) else DividedOnTheFly(loop, division)
