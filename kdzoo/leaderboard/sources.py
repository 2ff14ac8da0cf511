"""Where records come from: a store of runs, or a folder that was published."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from kdzoo.errors import UsageError
from kdzoo.leaderboard.bounded import bounded_record, bounded_study
from kdzoo.leaderboard.layout import RECORDS, read_leaderboard
from kdzoo.leaderboard.private import publishable, publishable_study
from kdzoo.leaderboard.untrusted import MOST_FILES, Allowance, Fault, UnreadableError, fault, read_value
from kdzoo.marker import is_store
from kdzoo.matrix import teacher_cell
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.study import Study

T = TypeVar("T", Record, Study)


@dataclass(frozen=True)
class Source:
    """What a folder offers to be published, in the form in which it is.

    Args:
        records: students', done and failed, and the trainings of their teachers.
        studies: finished ones.
        faults: what cannot be read, and why.
    """

    records: tuple[Record, ...]
    studies: tuple[Study, ...]
    faults: tuple[Fault, ...]


def is_published(folder: Path) -> bool:
    """Whether a folder is a published one, which has ``records`` and is no store of runs."""
    return (folder / RECORDS).is_dir() and not is_store(folder)


def read_source(folder: Path) -> Source:
    """What a store or a published folder offers.

    Raises:
        UsageError: it is neither, or a newer store.
    """
    if is_store(folder):
        return read_store(folder)
    if not is_published(folder):
        raise UsageError(f"{folder} is neither a store of runs nor a published folder; `kdzoo bench` makes the first")
    found = read_leaderboard(folder)
    return Source(tuple(map(publishable, found.records)), tuple(map(publishable_study, found.studies)), found.faults)


def read_store(folder: Path) -> Source:
    """What a store offers. It may be somebody else's: sizes are bounded and no link is followed.

    Raises:
        UsageError: it is no store, or a newer one.
    """
    store = Store.open(folder)
    faults: list[Fault] = []
    allowance = Allowance()
    records: dict[str, Record] = {}
    for path in _files(store.cells, "*/record.json", faults):
        record = _read(folder, path, path.parent.name, bounded_record, allowance, faults)
        if record is not None:
            records[record.id] = record
    studies = []
    for path in _files(store.studies, "*.json", faults):
        study = _read(folder, path, path.stem, bounded_study, allowance, faults)
        if study is not None and study.finished:
            studies.append(study)
    faults += allowance.faults(store.cells.name)
    students = [record for record in records.values() if record.cell.kind == "student"]
    trainings = {
        training.id
        for record in students
        if record.cell.teacher
        and (training := teacher_cell(record.cell.teacher, record.cell.data, record.cell.protocol))
    }
    return Source(
        records=tuple(map(publishable, [*students, *(records[each] for each in sorted(trainings & records.keys()))])),
        studies=tuple(map(publishable_study, studies)),
        faults=tuple(faults),
    )


def _files(place: Path, pattern: str, faults: list[Fault]) -> list[Path]:
    """The files of a folder of the store, which is no link, sorted."""
    if place.is_symlink():
        faults.append(fault(place.name, "is a symbolic link, which is not followed"))
        return []
    found = list(itertools.islice(place.glob(pattern), MOST_FILES + 1))
    if len(found) > MOST_FILES:
        faults.append(fault(place.name, f"the folder holds more than {MOST_FILES:,} files, and the rest is not read"))
    return sorted(found[:MOST_FILES])


def _read(
    folder: Path, path: Path, name: str, parse: Callable[[bytes, str], T], allowance: Allowance, faults: list[Fault]
) -> T | None:
    inner = PurePosixPath(path.relative_to(folder))
    if allowance.spent:
        return None
    if path.parent.is_symlink():
        faults.append(fault(inner.parent, "is a symbolic link, which is not followed"))
        return None
    try:
        found, _ = read_value(path, parse, allowance)
    except UnreadableError as error:
        if not allowance.spent:
            faults.append(fault(inner, str(error)))
        return None
    if found.id != name:
        faults.append(fault(inner, f"is misplaced: it holds {found.id}"))
        return None
    return found
