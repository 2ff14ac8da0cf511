"""The published folder: where each thing stands in it, and how it is read. All paths are relative to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from kdzoo.leaderboard.untrusted import (
    Fault,
    Reading,
    bounded_record,
    bounded_study,
    fault,
    walk,
)
from kdzoo.record import Record
from kdzoo.refs import DataRef, ModelRef, TeacherRef
from kdzoo.study import Study

_T = TypeVar("_T", Record, Study)

RECORDS = "records"
TEACHERS = "teachers"
STUDIES = "studies"
PLOTS = "plots"
INDEX = ("index.md", "index.html")
BOARD = ("board.md", "board.csv", "board.json", "board.tex", "board.html")

_LONGEST = 60
"""Characters of a slug: a pair's has two, and Windows allows 260 in a whole path."""

_TAKEN = frozenset(
    {RECORDS, TEACHERS, STUDIES, PLOTS, "index", "board", "con", "prn", "aux", "nul", "unnamed"}
    | {f"{device}{number}" for device in ("com", "lpt") for number in range(10)}
)
_UNSAFE = re.compile(r"[^a-z0-9._]+")
_RESTORE = "restore it from version control, or remove it and publish it again from its runs"
_PARTIAL = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{8}")
"""What a killed process may leave of a file that it was writing; see :mod:`kdzoo.files`."""


@dataclass(frozen=True)
class Leaderboard:
    """What a published folder holds.

    Args:
        records: those that can be read and stand where they belong, by id.
        studies: likewise.
        faults: what is wrong with the other files.
        complete: whether all records and studies that are there could be read.
        others: files that kdzoo may have made from records, or left half written.
    """

    records: tuple[Record, ...] = ()
    studies: tuple[Study, ...] = ()
    faults: tuple[Fault, ...] = ()
    complete: bool = True
    others: tuple[PurePosixPath, ...] = ()


def slug(text: str) -> str:
    """A folder's name for a name: lowercase letters, digits, ``.``, ``_`` and single ``-``, at most 60 characters.

    It never starts or ends with a dot, and is no name that kdzoo or Windows keeps for itself. Different names may
    share one: the files in the folder are named by ids.

    Example:
        >>> slug("fashion_mnist[:5000]")
        'fashion_mnist-5000'
    """
    safe = _UNSAFE.sub("-", text.lower())[:_LONGEST].strip("-.")
    return f"x-{safe or 'unnamed'}" if safe.partition(".")[0] in _TAKEN or not safe else safe


def dataset_slug(data: DataRef) -> str:
    """The folder of a dataset."""
    return slug(data.name)


def pair_slug(teacher: TeacherRef | None, student: ModelRef) -> str:
    """The folder of a pair: two slugs with two dashes between them, which none of them has."""
    return f"{slug(str(teacher.model)) if teacher else 'x-none'}--{slug(str(student))}"


def path_of_record(record: Record) -> PurePosixPath:
    """Where a record stands: with its pair, or, the training of a teacher or an assistant, with the
    teachers of its dataset."""
    cell = record.cell
    place = TEACHERS if cell.teaches else pair_slug(cell.teacher, cell.student)
    return PurePosixPath(RECORDS, dataset_slug(cell.data), place, f"{record.id}.json")


def path_of_study(study: Study) -> PurePosixPath:
    """Where a study stands: with its pair."""
    plan = study.plan
    pair = pair_slug(plan.teacher, plan.student)
    return PurePosixPath(RECORDS, dataset_slug(plan.data), pair, STUDIES, f"{study.id}.json")


def may_be_folder(path: PurePosixPath) -> bool:
    """Whether kdzoo would make such a folder."""
    match path.parts:
        case ("records", *inner):
            return len(inner) <= 2 or (len(inner) == 3 and inner[2] == STUDIES and inner[1] != TEACHERS)
        case (_,) | (_, "plots"):
            return True
    return False


def may_be_record(path: PurePosixPath) -> bool:
    """Whether a record would stand there."""
    return path.parts[0] == RECORDS and len(path.parts) == 4 and path.suffix == ".json"


def may_be_study(path: PurePosixPath) -> bool:
    """Whether a study would stand there."""
    return path.parts[0] == RECORDS and len(path.parts) == 5 and path.parts[3] == STUDIES and path.suffix == ".json"


def may_be_generated(path: PurePosixPath) -> bool:
    """Whether kdzoo would have made such a file from records, or left it half written."""
    if _PARTIAL.fullmatch(path.name):
        return True
    match path.parts:
        case (name,):
            return name in INDEX
        case (folder, name):
            return folder != RECORDS and name in BOARD
        case (folder, "plots", _):
            return folder != RECORDS and path.suffix in (".svg", ".png")
    return False


def read_leaderboard(folder: Path) -> Leaderboard:
    """Read a published folder, which may be hostile: nothing raises, no link is followed, sizes are bounded.

    Args:
        folder: where; one that is not there is empty.
    """
    if not folder.exists():
        return Leaderboard()
    reading = Reading(folder, _RESTORE)
    records: list[Record] = []
    studies: list[Study] = []
    others: list[PurePosixPath] = []
    strays: list[Fault] = []
    for path in walk(folder, may_be_folder, reading.faults):
        if may_be_generated(path):
            others.append(path)
        elif may_be_record(path):
            records += _read(reading, path, bounded_record, path_of_record)
        elif may_be_study(path):
            studies += _read(reading, path, bounded_study, path_of_study)
        else:
            strays.append(fault(path, "is neither a record nor made from records; move it away"))
    reading.finish(RECORDS)
    return Leaderboard(
        records=tuple(sorted(records, key=lambda record: record.id)),
        studies=tuple(sorted(studies, key=lambda study: study.id)),
        faults=tuple(sorted([*reading.faults, *strays])),
        complete=not any(PurePosixPath(one.file).parts[:1] in ((), (RECORDS,)) for one in reading.faults),
        others=tuple(others),
    )


def _read(
    reading: Reading, path: PurePosixPath, parse: Callable[[bytes, str], _T], place: Callable[[_T], PurePosixPath]
) -> list[_T]:
    """The record or study of a file; none, and a fault, where it is not what belongs there."""
    read = reading.value(path, parse)
    if read is None:
        return []
    found, canonical = read
    belongs = place(found)
    if not canonical:
        reason = "is not as kdzoo writes it (sorted, without spaces, every key once)"
    elif belongs != path:
        twin = ", and is there too" if (reading.folder / belongs).exists() else ""
        reason = f"is misplaced: it belongs at {belongs}{twin}"
    else:
        return [found]
    reading.faults.append(fault(path, reason))
    return []
