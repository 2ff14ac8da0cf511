"""One pass of a teacher in this process: what is kept of it, and views that are made when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, closing

import torch
from torch import Tensor

from kdzoo.data.load import LoadedData
from kdzoo.engine.bank.needs import Need, Place
from kdzoo.engine.bank.probe import Probe, Reader, overflows
from kdzoo.engine.bank.runner import Runner, pass_batch
from kdzoo.engine.bank.shelves import RamShelf, Shelf, Sink
from kdzoo.engine.bank.spec import BYTES, BankSettings, Entry, Pass
from kdzoo.models.teacher import Teacher

_REMOVALS = 3
"""How often a view may be taken away while it is made."""


class _OverflowError(Exception):
    """A value does not fit into the type in which its entry is kept."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.text)
        self.entry = entry


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
        self._makers: dict[str, tuple[Need, Place]] = {}
        self._runner: Runner | None = None
        self._probe: Probe | None = None

    def wake(self, teacher: Teacher, autocast: Callable[[], AbstractContextManager[object]]) -> None:
        """Have a teacher to run, and the context in which it runs."""
        self._runner = Runner(teacher, autocast)

    def rest(self) -> None:
        """Let go of the teacher; what is kept stays."""
        self._runner = self._probe = None

    @property
    def runner(self) -> Runner:
        """Runs the teacher that was woken."""
        if self._runner is None:
            raise ValueError("this pass has no teacher to run")
        return self._runner

    @property
    def probe(self) -> Probe:
        """A short run of the teacher, done once."""
        if self._probe is None:
            self._probe = Probe(self.owner, self.data, self.runner, self.settings.dtype)
        return self._probe

    def read(self, need: Need) -> Reader:
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

    def keep(self, reader: Reader) -> None:
        """Note that what a reader reads is made whenever one of its views is."""
        for _, entry in reader.places:
            self.kept.setdefault(entry.key, (entry, set()))[1].update(reader.numbers)

    def forget(self) -> None:
        """Let go of what is kept in memory."""
        self.shelf = None

    def in_memory(self) -> int:
        """Bytes that are kept in memory."""
        views = self.shelf.views.values() if isinstance(self.shelf, RamShelf) else ()
        return sum(view.nbytes for view in views)

    def view_bytes(self, entry: Entry) -> int:
        """Of an entry in one view, in the type in which it will be kept."""
        return entry.view_bytes // BYTES[entry.kept] * BYTES[self.wide.get(entry.key, entry.kept)]

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
                    self._fill(number, self.shelf)
                    continue
            other = left.pop(0)
            with self.shelf.claim(other, wait=False) as mine:
                if mine:
                    self._fill(other, self.shelf)

    def _lacking(self, number: int) -> list[Entry]:
        wanted = [entry for entry, numbers in self.kept.values() if number in numbers]
        return [entry for entry in wanted if self.view(entry, number) is None]

    def _fill(self, number: int, shelf: Shelf) -> None:
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

    def _pass_over(self, number: int, entries: list[Entry], shelf: Shelf) -> None:
        """Run the teacher over what is lacking of a view, once for all entries."""
        device, fit = self.runner.device, self.data.ref.fit
        size = pass_batch(self.data, device)
        makers = {entry.key: self._makers[entry.key] for entry in entries}
        with ExitStack() as stack:
            sinks: list[tuple[Entry, Sink]] = []
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
def _put(rows: Tensor, start: int, entry: Entry, sink: Sink) -> None:
    if overflows(rows, sink.dtype):
        raise _OverflowError(entry)
    sink.put(start, rows.to(getattr(torch, sink.dtype)).cpu())
