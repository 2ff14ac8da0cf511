"""The entries of a store. Only new records are parsed: a file keeps what was read of the others.

It holds nothing that the records do not, and may be deleted at any time. Where it cannot be used, every record is
parsed, which gives the same board and takes longer.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json, to_json

from kdzoo.board.entries import Entry
from kdzoo.board.kept import Kept, entries_of, kept_of
from kdzoo.board.reading import read_records, record_path, stamp_of
from kdzoo.files import atomic_write
from kdzoo.record import EVALUATION, SCHEMA
from kdzoo.store import Store

FILE = "board.jsonl"
"""Its first line has the form and what names stand for, the others are one record each."""

_FORM = f"3; record {SCHEMA}; evaluation {EVALUATION}"
"""Raise its first number when lines get another form."""


class Read(NamedTuple):
    """What was read of a store.

    Attributes:
        entries: of all records that could be read, in the order of their ids.
        ids: of these records, and of those that have no entry.
        problems: a sentence for each record that could not be read.
    """

    entries: list[Entry]
    ids: set[str]
    problems: list[str]


def read_entries(store: Store, *, processes: int = 1) -> Read:
    """Read the entries of a store.

    Args:
        store: an open store.
        processes: how many may parse where there is much that is new. Above one they are spawned, which runs a script
            that has no ``if __name__ == "__main__"`` again.
    """
    path = store.path / FILE
    cached, texts = _load(path)
    known = [one for one in cached if stamp_of(record_path(store.cells, one.id)) == one.stamp]
    fresh = sorted(set(store.cell_ids()) - {one.id for one in known})
    read = read_records(store.cells, fresh, processes)
    kept = sorted(known + kept_of(read.lines))
    texts |= read.texts
    if read.lines or len(known) < len(cached):
        _save(path, kept, texts)
    problems = [problem for _, problem in sorted(read.problems.items())]
    return Read(entries_of(kept, texts), {one.id for one in kept}, problems)


def _load(path: Path) -> tuple[list[Kept], dict[str, str]]:
    """What the file keeps, with what its names stand for; nothing, where there is none, or it cannot be read."""
    try:
        first, *lines = path.read_bytes().splitlines()
        head = from_json(first)
        return (kept_of(lines), head["texts"]) if head["form"] == _FORM else ([], {})
    except (OSError, ValueError, TypeError, KeyError):
        return [], {}


def _save(path: Path, kept: list[Kept], texts: dict[str, str]) -> None:
    """Keep this for the next board. The file is replaced whole, so that boards may run at once."""
    head = to_json({"form": _FORM, "texts": texts})
    with contextlib.suppress(OSError):  # a store that cannot be written has its board all the same
        atomic_write(path, b"\n".join([head, *(one.line for one in kept), b""]))
