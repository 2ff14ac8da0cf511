"""What a store knows of its bank: decisions that were noted; entries listed, verified, removed. No torch here."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from kdzoo.cell import canonical_json, content_hash
from kdzoo.engine.bank.policy import Demand, EntryView, Outcome, Selection, bytes_of
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.engine.bank.view_files import FACTS, ViewFile, read_facts
from kdzoo.errors import OddFileError, UsageError, unknown
from kdzoo.files import MOST_KEPT, atomic_write, discard, make_folder, read_plain, size_of
from kdzoo.refs import Frozen
from kdzoo.store import Store

CacheForm = Literal["ram", "disk", "off"]


class Decision(Frozen):
    """What was decided for one demand.

    Args:
        keys: of its entries, sorted.
        numbers: of its views, sorted, each once.
        count: how many trainings shared it.
        outcome: whether it is kept, or why not.
    """

    keys: tuple[str, ...]
    numbers: tuple[int, ...]
    count: int
    outcome: Outcome


class PassDecisions(Frozen):
    """All that was decided of one pass.

    Args:
        form: where the process that decided first keeps it.
        bytes: of all that is kept.
        verdicts: in the order in which they were given.
    """

    form: CacheForm = "off"
    bytes: int = 0
    verdicts: tuple[Decision, ...] = ()

    @property
    def kept(self) -> frozenset[EntryView]:
        """Entries and views that are kept."""
        return frozenset(
            (key, number)
            for verdict in self.verdicts
            if verdict.outcome == "kept"
            for key in verdict.keys
            for number in verdict.numbers
        )

    def outcome(self, demand: Demand) -> Outcome | None:
        """What was decided for such a demand; None if nothing was."""
        if demand.places <= self.kept:
            return "kept"
        asked = _question(demand)
        return next((one.outcome for one in self.verdicts if (one.keys, one.numbers, one.count) == asked), None)

    def judged(self, selection: Selection, form: CacheForm) -> PassDecisions:
        """The page with the verdicts of a selection."""
        have = self.kept
        new = tuple(
            Decision(keys=keys, numbers=numbers, count=count, outcome=outcome)
            for outcome, demands in selection.by_outcome().items()
            for keys, numbers, count in map(_question, demands)
        )
        added = sum(size for place, size in bytes_of(selection.kept).items() if place not in have)
        first = form if self.form == "off" and selection.kept else self.form
        return PassDecisions(form=first, bytes=self.bytes + added, verdicts=self.verdicts + new)


class DecisionLog:
    """The pages of a store, for one way of running the bank.

    Args:
        store: where.
        settings: how much is kept and how; other settings have other pages.
    """

    def __init__(self, store: Store, settings: BankSettings) -> None:
        self.store = store
        self._settings = content_hash([settings.mode == "auto", settings.budget, settings.dtype])

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No other process decides meanwhile."""
        with self.store.claim("bank-ledger", wait=True):
            yield

    def read(self, key: str) -> PassDecisions | None:
        """The page of a pass; None where there is none, or a damaged one."""
        return _read(self._path(key))

    def write(self, key: str, page: PassDecisions) -> None:
        """Note a page. Where the disk is full, this process alone knows what it decided."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            make_folder(path.parent)
            atomic_write(path, (canonical_json(page.model_dump(mode="json")) + "\n").encode())

    def on_disk(self, key: str) -> int:
        """Bytes that all other pages keep on the disk."""
        others = (_read(path) for path in self.store.bank.glob("kept-*.json") if path != self._path(key))
        return sum(page.bytes for page in others if page and page.form == "disk")

    def _path(self, key: str) -> Path:
        return self.store.bank / f"kept-{key}-{self._settings}.json"


def forget_decisions(store: Store) -> None:
    """Forget what was decided, of a bank that was emptied."""
    for path in store.bank.glob("kept-*.json"):
        discard(path)


def _read(path: Path) -> PassDecisions | None:
    try:
        return PassDecisions.model_validate_json(read_plain(path, MOST_KEPT))
    except (OSError, OddFileError, ValidationError):
        return None


def _question(demand: Demand) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    return tuple(sorted(demand.sizes)), tuple(sorted(set(demand.numbers))), demand.count


@dataclass(frozen=True)
class ListedEntry:
    """An entry as its folder tells it; texts are empty where ``entry.json`` is gone.

    Args:
        key: name of its folder.
        signal: what is kept, in words.
        teacher: the network that gave it.
        data: the dataset.
        shape: of one sample.
        dtype: of the values.
        views: finished ones.
        begun: views that a writer left half made, or is making.
        bytes: of all its files.
    """

    key: str
    signal: str
    teacher: str
    data: str
    shape: str
    dtype: str
    views: int
    begun: int
    bytes: int


def list_entries(store: Store) -> list[ListedEntry]:
    """All entries, by teacher, dataset and signal."""
    found = []
    for folder in _folders(store):
        facts = read_facts(folder)
        shape = facts.get("shape")
        found.append(
            ListedEntry(
                key=folder.name,
                signal=str(facts.get("signal", "")),
                teacher=str(facts.get("teacher", "")),
                data=str(facts.get("data", "")),
                shape=" x ".join(map(str, shape)) if isinstance(shape, list) else "",
                dtype=str(facts.get("dtype", "")),
                views=len(list(folder.glob("view-*.json"))),
                begun=len(list(folder.glob("view-*.sums"))),
                bytes=sum(map(size_of, folder.glob("*"))),
            )
        )
    return sorted(found, key=lambda one: (one.teacher, one.data, one.signal, one.key))


def verify_views(store: Store) -> tuple[int, list[str]]:
    """Read all finished views; how many there are, and a line for each file that is not whole."""
    count, faults = 0, []
    for folder in _folders(store):
        if (folder / FACTS).exists() and not read_facts(folder):
            faults.append(f"{folder / FACTS}: it is damaged, and so `kdzoo bank ls` cannot say what this is")
        for index in sorted(folder.glob("view-*.json")):
            if not (number := index.stem.removeprefix("view-")).isdecimal():
                continue
            count += 1
            file = ViewFile(folder, int(number))
            layout = file.layout()
            if layout is None:
                faults.append(f"{index}: the index is damaged")
            elif blocks := file.faults():
                faults.append(f"{file.data}: {len(blocks)} of {layout.blocks} blocks are cut or damaged")
    return count, faults


def remove_entries(store: Store, prefixes: Sequence[str]) -> int:
    """Remove the entries whose key begins with one of the prefixes (an empty one means all).

    Returns:
        The bytes that were freed.

    A bench that reads them goes on with what it has opened, and computes again what it opens later.

    Raises:
        UsageError: no key begins so.
    """
    entries = list_entries(store)
    for prefix in prefixes:
        if prefix and not any(entry.key.startswith(prefix) for entry in entries):
            raise UsageError(unknown("key of the bank", prefix, [entry.key for entry in entries]))
    chosen = [entry for entry in entries if entry.key.startswith(tuple(prefixes))]
    for entry in chosen:
        # A bench that writes there makes the folder again: what it left meanwhile is no reason to fail.
        shutil.rmtree(store.bank / entry.key, ignore_errors=True)
    if "" in prefixes:
        forget_decisions(store)
    return sum(entry.bytes for entry in chosen)


def _folders(store: Store) -> list[Path]:
    return sorted(path for path in store.bank.glob("*") if path.is_dir())
