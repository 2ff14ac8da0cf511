"""What was judged worth keeping, noted in the store, so that whoever comes later reads what was read before.

Free memory, free space and the time of a pass are not the same on the next day. Without the note a bench that is taken
up again, another worker, or one cell by itself could choose otherwise, and a row would mix signals that were rounded
with such that were not. No torch here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from kdzoo.cell import Frozen, canonical_json, content_hash
from kdzoo.engine.bank.policy import Demand, EntryView, Outcome, Selection, bytes_of
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.errors import OddFileError
from kdzoo.files import MOST_KEPT, atomic_write, discard, make_folder, read_plain
from kdzoo.store import Store

Form = Literal["ram", "disk", "off"]


class Verdict(Frozen):
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


class Page(Frozen):
    """All that was decided of one pass.

    Args:
        form: where the process that decided first keeps it.
        bytes: of all that is kept.
        verdicts: in the order in which they were given.
    """

    form: Form = "off"
    bytes: int = 0
    verdicts: tuple[Verdict, ...] = ()

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

    def judged(self, selection: Selection, form: Form) -> Page:
        """The page with the verdicts of a selection."""
        have = self.kept
        new = tuple(
            Verdict(keys=keys, numbers=numbers, count=count, outcome=outcome)
            for outcome, demands in selection.by_outcome().items()
            for keys, numbers, count in map(_question, demands)
        )
        added = sum(size for place, size in bytes_of(selection.kept).items() if place not in have)
        first = form if self.form == "off" and selection.kept else self.form
        return Page(form=first, bytes=self.bytes + added, verdicts=self.verdicts + new)


class Ledger:
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

    def read(self, key: str) -> Page | None:
        """The page of a pass; None where there is none, or a damaged one."""
        return _read(self._path(key))

    def write(self, key: str, page: Page) -> None:
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


def forget(store: Store) -> None:
    """Forget what was decided, of a bank that was emptied."""
    for path in store.bank.glob("kept-*.json"):
        discard(path)


def _read(path: Path) -> Page | None:
    try:
        return Page.model_validate_json(read_plain(path, MOST_KEPT))
    except (OSError, OddFileError, ValidationError):
        return None


def _question(demand: Demand) -> tuple[tuple[str, ...], tuple[int, ...], int]:
    return tuple(sorted(demand.sizes)), tuple(sorted(set(demand.numbers))), demand.count
