"""The records of two people in one published folder."""

from __future__ import annotations

from pathlib import Path

from kdzoo.errors import UsageError
from kdzoo.leaderboard.check.folder import content_faults
from kdzoo.leaderboard.layout import Leaderboard
from kdzoo.leaderboard.publish import Published
from kdzoo.leaderboard.sources import read_source
from kdzoo.leaderboard.union import Prefer, Union
from kdzoo.leaderboard.write import RefusedError, as_lines, open_target, write_folder
from kdzoo.marker import is_store


def merge(first: Path, second: Path, to: Path | None = None, prefer: Prefer = "neither") -> Published:
    """Unite two collections. All is read and checked before anything is written.

    Args:
        first: a published folder, or a store of runs, which has a ``store.json``.
        second: likewise.
        to: a new or empty folder; None to add to the first one.
        prefer: whose result is kept of a cell whose two results contradict each other.

    Raises:
        UsageError: a folder is neither, or the result has no place.
        RefusedError: something cannot be read, contradicts, or together does not pass ``kdzoo check``.
    """
    target = first if to is None else to
    if to is None and is_store(first):
        raise UsageError(f"{first} is a store of runs, to which nothing is merged; give a folder with --to")
    union = Union()
    unreadable: list[str] = []
    sides: tuple[tuple[Path, Prefer], ...] = ((first, "neither"), (second, prefer))
    for folder, preferred in sides:
        source = read_source(folder)
        unreadable += as_lines(source.faults, folder)
        if not source.records and not source.faults:
            raise UsageError(f"{folder} holds no finished student, so there is nothing of it to merge")
        union.add(source.records, source.studies, preferred)
    if unreadable:
        raise RefusedError("nothing was merged; these cannot be read:", unreadable)
    if union.conflicts:
        sentence = "nothing was merged; --prefer first or --prefer second decides these:"
        raise RefusedError(sentence, union.conflicts)
    old = open_target(target)
    if target.resolve() not in (first.resolve(), second.resolve()) and old != Leaderboard():
        raise UsageError(f"{target} holds records already; give a new or an empty folder")
    records = tuple(sorted(union.records.values(), key=lambda record: record.id))
    studies = tuple(sorted(union.studies.values(), key=lambda study: study.id))
    if faults := content_faults(records, studies):
        raise RefusedError("nothing was merged; together they would not pass `kdzoo check`:", map(str, faults))
    return Published(union, write_folder(target, old, Leaderboard(records, studies)), ())
