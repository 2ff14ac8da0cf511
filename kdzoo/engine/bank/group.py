"""One pass of a teacher in this process: what it gives, what of that is kept, and views that are made when needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kdzoo.data.load import LoadedData
from kdzoo.engine.bank.needs import Need, Place, tensors_of
from kdzoo.engine.bank.shelves import RamShelf, Shelf, Sink
from kdzoo.engine.bank.spec import BYTES, BankSettings, Entry, Pass, kept_dtype
from kdzoo.engine.evaluate import batch_for
from kdzoo.errors import KdzooError
from kdzoo.models.teacher import Teacher
from kdzoo.strategy import Classifier, Outputs, Signal

PROBED = 64
"""Samples by which shapes and time are found out."""
_BATCH_PIXELS = 2**17
"""Pixels of a batch on a CPU: larger ones leave its caches (ResNet-50 at 32x32: 102 images/s in batches of 128, 66 in
batches of 512, one core)."""

_LEAST = 32
"""A last batch with fewer samples is filled up: for small ones a CPU has other kernels, which round otherwise."""


def pass_batch(data: LoadedData, device: torch.device) -> int:
    """How many samples the teacher sees at a time: a power of two."""
    height, width = data.ref.img_size
    most = batch_for(data.ref)
    if device.type == "cpu":
        most = min(most, max(32, _BATCH_PIXELS // (height * width)))
    return int(2 ** (most.bit_length() - 1))


class _OverflowError(Exception):
    """A value does not fit into the type in which its entry is kept."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.text)
        self.entry = entry


@dataclass(frozen=True)
class _Probe:
    signals: frozenset[Signal]
    outputs: Outputs
    seconds: float


@dataclass(frozen=True)
class Reader:
    """What serves a need.

    Args:
        need: the need.
        places: the entries, by their places in what the strategy gets.
        constants: what it gets beside them, the same for every sample.
    """

    need: Need
    places: tuple[tuple[Place, Entry], ...]
    constants: Mapping[str, Classifier]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Under which numbers its views are kept, in the order in which the epochs show them."""
        return tuple(place.owner.number(view) for _, place in self.places[:1] for view in self.need.views)

    @property
    def keys(self) -> frozenset[str]:
        """Of the entries."""
        return frozenset(entry.key for _, entry in self.places)


class Group:
    """A pass and its entries.

    Args:
        owner: the pass.
        data: the dataset.
        settings: of the bank.
    """

    def __init__(self, owner: Pass, data: LoadedData, settings: BankSettings) -> None:
        self.owner, self.data, self.settings = owner, data, settings
        self.shelf: Shelf | None = None
        self.kept: dict[str, tuple[Entry, set[int]]] = {}
        self.wide: dict[str, str] = {}
        self.broken = False
        self._teacher: Teacher | None = None
        self._autocast: Callable[[], AbstractContextManager[object]] = nullcontext
        self._makers: dict[str, tuple[Need, Place]] = {}
        self._probe: _Probe | None = None

    def wake(self, teacher: Teacher, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        """Have a teacher to run, and the context in which it runs."""
        self._teacher, self._autocast = teacher, autocast

    def keep(self, reader: Reader) -> None:
        """Note that what a reader reads is made whenever one of its views is."""
        for _, entry in reader.places:
            self.kept.setdefault(entry.key, (entry, set()))[1].update(reader.numbers)

    def rest(self) -> None:
        """Let go of the teacher; what is kept stays."""
        self._teacher = self._probe = None

    def forget(self) -> None:
        """Let go of what is kept in memory."""
        self.shelf = None

    def in_memory(self) -> int:
        """Bytes that are kept in memory."""
        views = self.shelf.views.values() if isinstance(self.shelf, RamShelf) else ()
        return sum(view.nbytes for view in views)

    @property
    def teacher(self) -> Teacher:
        """The teacher that was woken."""
        if self._teacher is None:
            raise ValueError("this pass has no teacher to run")
        return self._teacher

    @property
    def device(self) -> torch.device:
        """Where the teacher runs."""
        return next(self.teacher.parameters()).device

    def read(self, need: Need) -> Reader:
        """Find out, by a few samples, which entries serve a need.

        Raises:
            KdzooError: the strategy's ``reduce`` breaks the contract.
        """
        own = _only(self._probed(need.signals).outputs, need.signals)
        samples = min(PROBED, self.data.ref.fit)
        places = []
        with torch.no_grad(), self._autocast():
            reduced = need.reduced(own)
            for place, text, tensor in tensors_of(reduced, need):
                given = str(tensor.dtype).removeprefix("torch.")
                if len(tensor) != samples or not tensor.numel() or given not in BYTES:
                    shape = tuple(tensor.shape)
                    raise KdzooError(
                        f"{need.strategy}.reduce gives {place.name!r} as {given} of shape {shape} for {samples} "
                        "samples: give one row per sample"
                    )
                kept = kept_dtype(text, given, self.settings.dtype)
                entry = Entry(self.owner, text, tuple(tensor.shape[1:]), given, kept)
                if _overflows(tensor, kept):
                    self.wide[entry.key] = given
                self._makers.setdefault(entry.key, (need, place))
                places.append((place, entry))
        constants = {name: value for name, value in reduced.values.items() if isinstance(value, Classifier)}
        return Reader(need, tuple(places), constants)

    def seconds_per_sample(self) -> float:
        """Of the teacher's pass, measured on a few samples."""
        return self._probed(frozenset()).seconds

    def _probed(self, signals: frozenset[Signal]) -> _Probe:
        if self._probe is None or not signals <= self._probe.signals:
            wanted = signals | (self._probe.signals if self._probe else frozenset())
            ids = torch.arange(min(PROBED, self.data.ref.fit))
            images = self.data.images("fit", ids, self.owner.augment).to(self.device)
            self._run(images, wanted)
            began = time.perf_counter()
            outputs = self._run(images, wanted)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._probe = _Probe(wanted, outputs, (time.perf_counter() - began) / len(ids))
        return self._probe

    def _run(self, images: Tensor, signals: Collection[Signal]) -> Outputs:
        with self._autocast():
            outputs: Outputs = self.teacher(images, signals)
        return outputs

    def view_bytes(self, entry: Entry) -> int:
        """Of an entry in one view, in the type in which it will be kept."""
        return entry.view_bytes // BYTES[entry.kept] * BYTES[self.wide.get(entry.key, entry.kept)]

    @property
    def wide_dtype(self) -> str:
        """What entries are kept in whose values do not fit."""
        return next(iter(self.wide.values()), "float32")

    def view(self, entry: Entry, number: int) -> Tensor | None:
        """A view that can be read, samples x shape; None if there is none."""
        return self.shelf.get(entry, number) if self.shelf else None

    def make(self, number: int, upcoming: Iterable[int] = ()) -> None:
        """See to it that a view of all that is kept can be read.

        While another process makes it, this one makes another view that will be needed.

        Args:
            number: of the view.
            upcoming: views that will be needed after it.

        Raises:
            OSError: it cannot be written.
        """
        if self.shelf is None:
            raise ValueError("nothing was chosen to be kept")
        left = [each for each in upcoming if each != number]
        while self._lacking(number):
            with self.shelf.claim(number, wait=not left) as mine:
                if mine:
                    self._fill(number)
                    continue
            other = left.pop(0)
            with self.shelf.claim(other, wait=False) as mine:
                if mine:
                    self._fill(other)

    def _lacking(self, number: int) -> list[Entry]:
        wanted = [entry for entry, numbers in self.kept.values() if number in numbers]
        return [entry for entry in wanted if self.view(entry, number) is None]

    def _fill(self, number: int) -> None:
        assert self.shelf is not None
        while lacking := self._lacking(number):
            try:
                self._pass_over(number, lacking)
            except _OverflowError as error:
                self.wide[error.entry.key] = error.entry.given
            except OSError:
                for entry in lacking:  # half a view is of no use to a full disk
                    self.shelf.drop(entry, number)
                raise

    def _pass_over(self, number: int, entries: list[Entry]) -> None:
        """Run the teacher over what is lacking of a view, once for all entries."""
        assert self.shelf is not None
        size = pass_batch(self.data, self.device)
        signals = frozenset[Signal]().union(*(self._makers[entry.key][0].signals for entry in entries))
        with ExitStack() as stack:
            sinks: dict[str, Sink] = {}
            for entry in entries:
                dtype = self.wide.get(entry.key, entry.kept)
                sink = self.shelf.sink(entry, number, dtype, size)
                sinks[entry.key] = stack.enter_context(closing(sink))
            starts = range(0, self.data.ref.fit, size)
            todo = [n for n, start in enumerate(starts) if any(sink.lacks(start) for sink in sinks.values())]
            batches = self.data.eval_batches(
                "fit", size, self.device, augment=self.owner.augment, view=number, only=todo
            )
            for n, batch in zip(todo, batches, strict=True):
                self._keep(self._outputs(batch.inputs, signals, entries), starts[n], entries, sinks)
            for sink in sinks.values():
                sink.finish()

    @torch.inference_mode()
    def _outputs(self, images: Tensor, signals: frozenset[Signal], entries: list[Entry]) -> dict[str, Tensor]:
        count, least = len(images), min(_LEAST, pass_batch(self.data, self.device), self.data.ref.fit)
        if count < least:
            images = torch.cat([images, images[-1:].expand(least - count, *images.shape[1:])])
        raw = self._run(images, signals)
        made: dict[int, Outputs] = {}
        found = {}
        for entry in entries:
            need, place = self._makers[entry.key]
            if id(need) not in made:
                with self._autocast():
                    made[id(need)] = need.reduced(_only(raw, need.signals))
            value = made[id(need)].values[place.name]
            found[entry.key] = (value if place.position is None else value[place.position])[:count]
        return found

    @torch.inference_mode()
    def _keep(self, found: dict[str, Tensor], start: int, entries: list[Entry], sinks: dict[str, Sink]) -> None:
        for entry in entries:
            sink, rows = sinks[entry.key], found[entry.key]
            if not sink.lacks(start):
                continue
            if _overflows(rows, sink.dtype):
                raise _OverflowError(entry)
            sink.put(start, rows.to(getattr(torch, sink.dtype)).cpu())


def _only(outputs: Outputs, signals: frozenset[Signal]) -> Outputs:
    return Outputs({name: value for name, value in outputs.values.items() if name in signals})


def _overflows(rows: Tensor, dtype: str) -> bool:
    """Whether a finite value becomes infinite in a type."""
    if dtype != "float16" or rows.dtype == torch.float16:
        return False
    return bool((rows.to(torch.float16).isinf() & rows.isfinite()).any())
