"""The bank of one process: decides what is kept of each pass, and hands out where trainings read."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from kdzoo.data.load import LoadedData
from kdzoo.engine.bank.inventory import CacheForm, DecisionLog, PassDecisions
from kdzoo.engine.bank.passes import CachedPass, SignalReader
from kdzoo.engine.bank.policy import Demand, EntryView, Selection, choose_kept, explain_selection, recall_selection
from kdzoo.engine.bank.signal_sources import Banked, OnTheFly, SignalSource
from kdzoo.engine.bank.spec import BankSettings, Pass
from kdzoo.engine.bank.storage import DiskStorage, RamStorage
from kdzoo.engine.resources import free_memory
from kdzoo.files import size_of
from kdzoo.models.teacher import Teacher
from kdzoo.store import Store

_SHARE = 0.5
"""Of the memory or the disk that is free now, what the bank takes at most."""


@dataclass(frozen=True)
class Choice:
    """What is kept of a pass.

    Args:
        form: where, in this process.
        kept: entries and views.
        bytes: of all of it.
        said: the line that told of it.
    """

    form: CacheForm
    kept: frozenset[EntryView]
    bytes: int
    said: str


class Bank:
    """Keeps what teachers say, for the trainings of this process.

    Args:
        store: where files go.
        settings: how much is kept and how.
        say: is given each line that a person should read.
    """

    def __init__(self, store: Store, settings: BankSettings, say: Callable[[str], None]) -> None:
        self.store, self.settings, self.say = store, settings, say
        self.choices: dict[str, Choice] = {}
        self.ledger = DecisionLog(store, settings)
        self._pages: dict[str, PassDecisions] = {}
        self._groups: dict[str, CachedPass] = {}

    def group(
        self,
        owner: Pass,
        teacher: Teacher,
        data: LoadedData,
        autocast: Callable[[], AbstractContextManager[object]],
        *,
        beside: bool = False,
    ) -> CachedPass:
        """What this process has of a pass; groups of other teachers let go of them.

        Args:
            owner: the pass.
            teacher: the frozen teacher, on the device on which it runs.
            data: the dataset.
            autocast: the context in which the teacher runs.
            beside: whether the other teachers are needed too, so that their groups keep them.
        """
        for key, other in list(self._groups.items()):
            if key != owner.key and not beside:
                other.rest()
        group = self._groups.setdefault(owner.key, CachedPass(owner, data, self.settings))
        group.wake(teacher, autocast)
        return group

    def in_memory(self) -> int:
        """Bytes that are kept in the memory of this process."""
        return sum(group.in_memory() for group in self._groups.values())

    def source(
        self, group: CachedPass, reader: SignalReader, readers: Callable[[bool], Sequence[SignalReader]], loop: OnTheFly
    ) -> SignalSource:
        """Where a training reads.

        Args:
            group: the pass.
            reader: what the training reads.
            readers: what the trainings of the bench read; with True, of those that were known when it began, else of
                all that are known now, this one among them. Asked where it must be decided.
            loop: the teacher itself.
        """
        choice = self.choices.get(group.owner.key) or self.decide(group, readers(True))
        if not reader.views <= choice.kept:
            # What tuning adds is judged by those that read just that.
            choice = self.decide(group, [other for other in readers(False) if other.views == reader.views])
        if choice.form == "off" or not reader.places or not reader.views <= choice.kept:
            return loop
        beside = self._needed_beside(group) if choice.form == "ram" else 0
        if beside and choice.bytes + beside > self.settings.budget:
            return loop
        self._shelve(group, choice)
        group.keep(reader)
        return Banked(group, reader, loop, lambda error: self._give_up(group, error))

    def decide(self, group: CachedPass, readers: Sequence[SignalReader]) -> Choice:
        """Choose what is kept of a pass, beside what was chosen before: by this process, another one, an earlier bench.

        Args:
            group: the pass.
            readers: of all trainings that are known.
        """
        key = group.owner.key
        before, demands = self.choices.get(key), _demands(group, readers)
        with self.ledger.held():
            # What could not be written, or was removed meanwhile, is still known here.
            page = self.ledger.read(key) or self._pages.get(key, PassDecisions())
            new = [demand for demand in demands if page.outcome(demand) is None]
            form, selection = self._select(group, new, page, before)
            if new:
                page = page.judged(selection, form)
                self.ledger.write(key, page)
            self._pages[key] = page
        mentioned = demands if before is None else new
        shown = recall_selection(((demand, page.outcome(demand) or "single") for demand in mentioned), page.kept)
        said = self._sentence(group, shown, form) if mentioned else ""
        if said and (before is None or selection.kept):
            self.say(said)
        choice = Choice(form if page.kept else "off", page.kept, page.bytes, said)
        self.choices[key] = choice
        for reader in readers:
            if reader.views <= choice.kept:
                group.keep(reader)
        return choice

    def _select(
        self, group: CachedPass, demands: list[Demand], page: PassDecisions, before: Choice | None
    ) -> tuple[CacheForm, Selection]:
        """Where this process keeps what it keeps, and what that is of the new demands."""
        settings = self.settings
        there = self._on_disk(page, demands)
        rooms: dict[CacheForm, int] = {
            "ram": int(_SHARE * (free_memory() + group.in_memory())),
            "disk": int(_SHARE * (shutil.disk_usage(self.store.path).free + there)),
        }
        budgets: dict[CacheForm, int] = {
            "ram": settings.budget,
            "disk": settings.budget - self.ledger.on_disk(group.owner.key),
        }
        forms: list[CacheForm] = ["ram", "disk"]
        if before is not None and before.form != "off":
            forms = [before.form]
        elif settings.mode in ("ram", "disk"):
            forms = [settings.mode]
        elif settings.shared or there:
            forms = ["disk"]
        frugal = settings.mode == "auto"
        seconds = group.probe.seconds * group.owner.data.fit if frugal and demands else None
        found: list[tuple[CacheForm, Selection]] = []
        for form in forms:
            room = min(budgets[form], rooms[form]) - page.bytes
            found.append((form, choose_kept(demands, room, frugal=frugal, have=page.kept, pass_seconds=seconds)))
        # Where both keep as much, the first one: files stay behind, and memory does not.
        return max(found, key=lambda each: (page.bytes <= rooms[each[0]], each[1].bytes, -forms.index(each[0])))

    def _on_disk(self, page: PassDecisions, demands: Sequence[Demand]) -> int:
        """Bytes of it that an earlier bench left."""
        keys = {key for key, _ in page.kept}.union(*(demand.sizes for demand in demands))
        return sum(size_of(path) for key in keys for path in (self.store.bank / key).glob("view-*.bin"))

    def _sentence(self, group: CachedPass, selection: Selection, form: CacheForm) -> str:
        owner = group.owner
        texts = {key: text for demand in selection.kept for key, text in demand.texts.items()}
        wide = sorted((text, group.wide[key]) for key, text in texts.items() if key in group.wide)
        remarks = [f"{text} as {dtype} because it overflows float16" for text, dtype in wide]
        return explain_selection(
            selection,
            form,
            of=f"{owner.teacher} on {owner.data.name}",
            samples=owner.data.fit,
            seconds=group.probe.seconds,
            budget=self.settings.budget,
            remarks=remarks,
        )

    def _shelve(self, group: CachedPass, choice: Choice) -> None:
        """Give a group its shelf; in memory there is room for the budget, so what others have there may have to go."""
        if group.shelf is None:
            group.shelf = RamStorage() if choice.form == "ram" else DiskStorage(self.store, group.owner)
        if choice.form != "ram":
            return
        others = [other for other in self._groups.values() if other is not group and other.in_memory() and other.rests]
        while others and choice.bytes + sum(map(CachedPass.in_memory, others)) > self.settings.budget:
            others.pop(0).forget()

    def _needed_beside(self, group: CachedPass) -> int:
        """Bytes in memory of the other teachers of the same cell, which cannot go to make room."""
        keys = [key for key, other in self._groups.items() if other is not group and not other.rests and other.shelf]
        return sum(self.choices[key].bytes for key in keys if self.choices[key].form == "ram")

    def _give_up(self, group: CachedPass, error: OSError) -> None:
        full = error.strerror in {os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT)}
        reason = "the disk is full" if full else str(error.strerror).lower()
        self.say(
            f"bank: {self.store.bank} cannot be written ({reason}); {group.owner.teacher} runs on the fly for the "
            f"views that are not cached yet"
        )


def _demands(group: CachedPass, readers: Sequence[SignalReader]) -> list[Demand]:
    """The readers that read something, equal ones as one, in an order that depends on what they read alone."""
    alike: dict[tuple[frozenset[str], tuple[int, ...]], list[SignalReader]] = {}
    for reader in readers:
        if reader.places:
            alike.setdefault((reader.keys, reader.numbers), []).append(reader)
    demands = [
        Demand(
            strategy=", ".join(sorted({reader.need.strategy for reader in same})),
            texts={entry.key: entry.text for _, entry in same[0].places},
            sizes={entry.key: group.view_bytes(entry) for _, entry in same[0].places},
            numbers=same[0].numbers,
            count=sum(reader.need.count for reader in same),
        )
        for same in alike.values()
    ]
    return sorted(demands, key=lambda demand: (demand.strategy, sorted(demand.texts), demand.numbers))
