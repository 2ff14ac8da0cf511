"""One pass of a teacher in this process: a short run that finds what serves a need, and views made when needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from kdzoo.data.load import LoadedData
from kdzoo.engine.bank.needs import Need, SignalPlace, TeacherRunner, pass_batch, tensors_of
from kdzoo.engine.bank.spec import BYTES, BankSettings, CacheEntry, Pass, kept_dtype
from kdzoo.engine.bank.storage import RamStorage, Storage, ViewWriter
from kdzoo.errors import KdzooError
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Classifier, Outputs, only

_PIXELS = 2**19
_SAMPLES = 32
_LARGEST = torch.finfo(torch.float16).max
_REMOVALS = 3
"""How often a view may be taken away while it is made."""


@dataclass(frozen=True)
class SignalReader:
    """What serves a need.

    Args:
        need: the need.
        places: the entries, by their places in what the strategy gets.
        constants: what it gets beside them, the same for every sample.
        wide: keys of entries with values that do not fit into the type in which they would be kept.
    """

    need: Need
    places: tuple[tuple[SignalPlace, CacheEntry], ...]
    constants: Mapping[str, Classifier]
    wide: frozenset[str] = frozenset()

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Under which numbers its views are kept, in the order in which the epochs show them."""
        return tuple(place.owner.number(view) for _, place in self.places[:1] for view in self.need.views)

    @property
    def keys(self) -> frozenset[str]:
        """Of the entries."""
        return frozenset(entry.key for _, entry in self.places)

    @cached_property
    def views(self) -> frozenset[tuple[str, int]]:
        """Keys of entries, each with the number of a view that is read."""
        return frozenset((key, number) for key in self.keys for number in self.numbers)


class TeacherProbe:
    """A few samples of one view, as the teacher sees them.

    Args:
        owner: the pass.
        data: the dataset.
        runner: runs the teacher.
        dtype: in which embeddings and stages are to be kept.
    """

    def __init__(self, owner: Pass, data: LoadedData, runner: TeacherRunner, dtype: str) -> None:
        self.owner, self.runner, self.dtype = owner, runner, dtype
        height, width = data.ref.img_size
        self.samples = min(max(2, _PIXELS // (height * width)), _SAMPLES, data.ref.fit)
        images = data.images("fit", torch.arange(self.samples), owner.augment)
        self._images = images.to(runner.device)
        self._outputs = runner.run(self._images, frozenset({"logits", "stages", "embedding"}))

    @cached_property
    def seconds(self) -> float:
        """Of the teacher's pass over one sample."""
        began = time.perf_counter()
        self.runner.run(self._images, frozenset({"logits", "stages", "embedding"}))
        if self._images.device.type == "cuda":
            torch.cuda.synchronize(self._images.device)
        return (time.perf_counter() - began) / self.samples

    def read(self, need: Need) -> SignalReader:
        """Find out which entries serve a need.

        Raises:
            KdzooError: the strategy's ``reduce`` breaks the contract.
        """
        values: dict[str, Any] = dict(self._outputs.values)
        if lacking := need.signals - values.keys() - {"classifier"}:  # few strategies ask for these
            values |= self.runner.run(self._images, lacking).values
        if "classifier" in need.signals:
            values["classifier"] = self.runner.teacher.classifier()
        places, wide = [], set()
        with torch.no_grad(), self.runner.autocast():
            reduced = need.reduced(only(Outputs(values), need.signals))
            for place, text, tensor in tensors_of(reduced, need):
                entry = self._entry(need, place, text, tensor)
                places.append((place, entry))
                if overflows(tensor, entry.kept):
                    wide.add(entry.key)
        constants = {name: value for name, value in reduced.values.items() if isinstance(value, Classifier)}
        return SignalReader(need, tuple(places), constants, frozenset(wide))

    def _entry(self, need: Need, place: SignalPlace, text: str, tensor: Tensor) -> CacheEntry:
        given = str(tensor.dtype).removeprefix("torch.")
        if len(tensor) != self.samples or not tensor.numel() or given not in BYTES:
            raise KdzooError(
                f"{need.strategy}.reduce gives {place.name!r} as {given} of shape {tuple(tensor.shape)} for "
                f"{self.samples} samples: give one row per sample"
            )
        return CacheEntry(self.owner, text, tuple(tensor.shape[1:]), given, kept_dtype(text, given, self.dtype))


def overflows(rows: Tensor, dtype: str) -> bool:
    """Whether a finite value becomes infinite in a type."""
    if dtype != "float16" or rows.dtype == torch.float16:
        return False
    # One look at the values is enough for most: only NaN, infinities and large values need the closer one.
    least, most = rows.aminmax()
    if bool((least >= -_LARGEST) & (most <= _LARGEST)):
        return False
    return bool((rows.to(torch.float16).isinf() & rows.isfinite()).any())


class _OverflowError(Exception):
    """A value does not fit into the type in which its entry is kept."""

    def __init__(self, entry: CacheEntry) -> None:
        super().__init__(entry.text)
        self.entry = entry


class CachedPass:
    """A pass and its entries.

    Args:
        owner: the pass.
        data: the dataset.
        settings: of the bank.
    """

    def __init__(self, owner: Pass, data: LoadedData, settings: BankSettings) -> None:
        self.owner, self.data, self.settings = owner, data, settings
        self.shelf: Storage | None = None
        self.kept: dict[str, tuple[CacheEntry, set[int]]] = {}
        self.wide: dict[str, str] = {}
        self.broken = False
        self._makers: dict[str, tuple[Need, SignalPlace]] = {}
        self._runner: TeacherRunner | None = None
        self._probe: TeacherProbe | None = None

    def wake(self, teacher: Teacher, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        """Have a teacher to run, and the context in which it runs."""
        self._runner = TeacherRunner(teacher, autocast)

    def rest(self) -> None:
        """Let go of the teacher; what is kept stays."""
        self._runner = self._probe = None

    @property
    def rests(self) -> bool:
        """Whether it has no teacher to run, so that nobody reads it now."""
        return self._runner is None

    @property
    def runner(self) -> TeacherRunner:
        """Runs the teacher that was woken."""
        if self._runner is None:
            raise ValueError("this pass has no teacher to run")
        return self._runner

    @property
    def probe(self) -> TeacherProbe:
        """A short run of the teacher, done once."""
        if self._probe is None:
            self._probe = TeacherProbe(self.owner, self.data, self.runner, self.settings.dtype)
        return self._probe

    def read(self, need: Need) -> SignalReader:
        """Find out which entries serve a need.

        Raises:
            KdzooError: the strategy's ``reduce`` breaks the contract.
        """
        reader = self.probe.read(need)
        for place, entry in reader.places:
            self._makers.setdefault(entry.key, (need, place))
            if entry.key in reader.wide:
                self.wide[entry.key] = entry.given
        return reader

    def keep(self, reader: SignalReader) -> None:
        """Note that what a reader reads is made whenever one of its views is."""
        for _, entry in reader.places:
            self.kept.setdefault(entry.key, (entry, set()))[1].update(reader.numbers)

    def forget(self) -> None:
        """Let go of what is kept in memory."""
        self.shelf = None

    def in_memory(self) -> int:
        """Bytes that are kept in memory."""
        views = self.shelf.views.values() if isinstance(self.shelf, RamStorage) else ()
        return sum(view.nbytes for view in views)

    def view_bytes(self, entry: CacheEntry) -> int:
        """Of an entry in one view, in the type in which it will be kept."""
        return entry.view_bytes // BYTES[entry.kept] * BYTES[self.wide.get(entry.key, entry.kept)]

    def view(self, entry: CacheEntry, number: int) -> Tensor | None:
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
                    self._fill(number, self.shelf)
                    continue
            other = left.pop(0)
            with self.shelf.claim(other, wait=False) as mine:
                if mine:
                    self._fill(other, self.shelf)

    def _lacking(self, number: int) -> list[CacheEntry]:
        wanted = [entry for entry, numbers in self.kept.values() if number in numbers]
        return [entry for entry in wanted if self.view(entry, number) is None]

    def _fill(self, number: int, shelf: Storage) -> None:
        removed = 0
        while lacking := self._lacking(number):
            try:
                shelf.reserve({entry: self.view_bytes(entry) for entry in lacking}, number)
                self._pass_over(number, lacking, shelf)
            except _OverflowError as error:
                self.wide[error.entry.key] = error.entry.given
            except FileNotFoundError:  # somebody emptied the bank under this process: begin anew, unless it goes on so
                removed += 1
                if removed == _REMOVALS:
                    raise
            except OSError:
                for entry in lacking:  # half a view is of no use to a full disk
                    shelf.drop(entry, number)
                raise

    def _pass_over(self, number: int, entries: list[CacheEntry], shelf: Storage) -> None:
        """Run the teacher over what is lacking of a view, once for all entries."""
        device, fit = self.runner.device, self.data.ref.fit
        size = pass_batch(self.data, device)
        makers = {entry.key: self._makers[entry.key] for entry in entries}
        with ExitStack() as stack:
            sinks: list[tuple[CacheEntry, ViewWriter]] = []
            for entry in entries:
                sink = shelf.sink(entry, number, self.wide.get(entry.key, entry.kept), size)
                sinks.append((entry, stack.enter_context(closing(sink))))
            starts = range(0, fit, size)
            todo = [n for n, start in enumerate(starts) if any(sink.lacks(start) for _, sink in sinks)]
            batches = self.data.eval_batches("fit", size, device, augment=self.owner.augment, view=number, only=todo)
            for n, batch in zip(todo, batches, strict=True):
                made = self.runner.make(batch.inputs, makers, least=min(size, fit))
                for entry, sink in sinks:
                    if sink.lacks(starts[n]):
                        _put(made[entry.key], starts[n], entry, sink)
            for _, sink in sinks:
                sink.finish()


@torch.inference_mode()
def _put(rows: Tensor, start: int, entry: CacheEntry, sink: ViewWriter) -> None:
    if overflows(rows, sink.dtype):
        raise _OverflowError(entry)
    sink.put(start, rows.to(getattr(torch, sink.dtype)).cpu())
