"""The entries of a store. Only new records are parsed: a file keeps what was read of the others.

It holds nothing that the records do not, and may be deleted at any time. Where it cannot be used, every record is
parsed, which gives the same board and takes longer.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json, to_json

from kdzoo.board.entries import Entry
from kdzoo.board.kept import Kept, digests_of, entries_of, kept_of
from kdzoo.board.reading import read_records, record_path, stamp_of
from kdzoo.errors import OddFileError
from kdzoo.files import atomic_write, read_plain
from kdzoo.record import EVALUATION, SCHEMA
from kdzoo.store import Store

FILE = "board.jsonl"
"""Its first line has the form and a hash of the others, the second what digests stand for, each other one record."""

_MOST = 2**36
"""Bytes of it: of a hundred million records."""

_FORM = f"6; kdzoo {version('kdzoo')}; record {SCHEMA}; evaluation {EVALUATION}"
"""Raise its first number when lines get another form within a version."""


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
    kept, texts, problems = _refreshed(store, processes)
    return Read(entries_of(kept, texts), {one.id for one in kept}, problems)


def refresh(store: Store) -> None:
    """Parse the records that are new, so that no board needs to. What cannot be read, boards will tell."""
    with contextlib.suppress(OSError):
        _refreshed(store, 1)


def _refreshed(store: Store, processes: int) -> tuple[list[Kept], dict[str, str], list[str]]:
    """What is kept of all records, in the order of their ids, what digests stand for, and the problems."""
    path = store.path / FILE
    cached, texts = _load(path)
    known = [one for one in cached if one.stamp and stamp_of(record_path(store.cells, one.id)) == one.stamp]
    fresh = sorted(set(store.cell_ids()) - {one.id for one in known})
    read = read_records(store.cells, fresh, processes)
    kept = sorted(known + kept_of(read.lines), key=attrgetter("id"))
    texts |= read.texts
    if read.lines or len(known) < len(cached):
        _save(path, kept, texts)
    return kept, texts, [problem for _, problem in sorted(read.problems.items())]


def _load(path: Path) -> tuple[list[Kept], dict[str, str]]:
    """What the file keeps, and what digests stand for; nothing, where it is missing, damaged or another version's."""
    try:
        head, _, rest = read_plain(path, _MOST).partition(b"\n")
        if from_json(head) != _head(rest):
            return [], {}
    except (OSError, OddFileError, ValueError):
        return [], {}
    texts, *lines = rest.split(b"\n")
    return kept_of(lines), from_json(texts)


def _save(path: Path, kept: Sequence[Kept], texts: Mapping[str, str]) -> None:
    """Keep this for the next board. The file is replaced whole, so that boards may run at once."""
    used = {digest: texts[digest] for digest in sorted(digests_of(kept))}
    rest = b"\n".join([to_json(used), *(one.line for one in kept)])
    with contextlib.suppress(OSError):  # a store that cannot be written has its board all the same
        atomic_write(path, to_json(_head(rest)) + b"\n" + rest)


def _head(rest: bytes) -> dict[str, str]:
    return {"form": _FORM, "sha256": hashlib.sha256(rest).hexdigest()}
