"""What lies in the bank of a store: listed, checked, removed. No torch here."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kdzoo.engine.bank.disk import FACTS, ViewFile, read_facts
from kdzoo.engine.bank.ledger import forget
from kdzoo.errors import UsageError, unknown
from kdzoo.files import size_of
from kdzoo.store import Store


@dataclass(frozen=True)
class Listed:
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


def listing(store: Store) -> list[Listed]:
    """All entries, by teacher, dataset and signal."""
    found = []
    for folder in _folders(store):
        facts = read_facts(folder)
        shape = facts.get("shape")
        found.append(
            Listed(
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


def verify(store: Store) -> tuple[int, list[str]]:
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


def remove(store: Store, prefixes: Sequence[str]) -> int:
    """Remove the entries whose key begins with one of the prefixes (an empty one means all).

    Returns:
        The bytes that were freed.

    A bench that reads them goes on with what it has opened, and computes again what it opens later.

    Raises:
        UsageError: no key begins so.
    """
    entries = listing(store)
    for prefix in prefixes:
        if prefix and not any(entry.key.startswith(prefix) for entry in entries):
            raise UsageError(unknown("key of the bank", prefix, [entry.key for entry in entries]))
    chosen = [entry for entry in entries if entry.key.startswith(tuple(prefixes))]
    for entry in chosen:
        # A bench that writes there makes the folder again: what it left meanwhile is no reason to fail.
        shutil.rmtree(store.bank / entry.key, ignore_errors=True)
    if "" in prefixes:
        forget(store)
    return sum(entry.bytes for entry in chosen)


def _folders(store: Store) -> list[Path]:
    return sorted(path for path in store.bank.glob("*") if path.is_dir())
