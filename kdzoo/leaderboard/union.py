"""What folders offer to be published, and the union of several: where they contradict each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

from kdzoo.errors import UsageError
from kdzoo.foreign import visible
from kdzoo.leaderboard.check.groups import differences, differences_text
from kdzoo.leaderboard.layout import RECORDS, read_leaderboard
from kdzoo.leaderboard.private import publishable, publishable_study
from kdzoo.leaderboard.untrusted import (
    MOST_FILES,
    Fault,
    Reading,
    bounded_record,
    bounded_study,
    fault,
)
from kdzoo.needed import trainings as trainings_of
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.storefiles import is_store
from kdzoo.study import Study

_T = TypeVar("_T", Record, Study)
Prefer = Literal["neither", "first", "second"]


@dataclass
class Union:
    """What two collections hold together.

    Attributes:
        records: by id.
        studies: by id.
        added: ids that only the second one brought.
        replaced: ids whose first one gave way to the second.
        kept: ids that both hold, where the first one stays.
        conflicts: one line for each id that both hold with different outcomes, which nothing decides.
    """

    records: dict[str, Record] = field(default_factory=dict)
    studies: dict[str, Study] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)

    def add(self, records: Iterable[Record], studies: Iterable[Study], prefer: Prefer = "neither") -> None:
        """Take more in.

        Where one cell has two records, a done one goes before a failed one, and of two failed ones the later one.
        Two done ones with different outcomes are a conflict; each measure says within what its values do not differ.

        Args:
            records: as they are published.
            studies: as they are published.
            prefer: which of two that contradict each other is kept.
        """
        for record in records:
            self._add(self.records, record, prefer, _choose_record, _explain_record)
        for study in studies:
            self._add(self.studies, study, prefer, _choose_study, _explain_study)

    def _add(
        self,
        held: dict[str, _T],
        new: _T,
        prefer: Prefer,
        choose: Callable[[_T, _T], Literal["same", "first", "second", "conflict"]],
        explain: Callable[[_T, _T], str],
    ) -> None:
        old = held.setdefault(new.id, new)
        if old is new:
            self.added.append(new.id)
            return
        choice = choose(old, new)
        if choice == "conflict":
            if prefer == "neither":
                self.conflicts.append(visible(explain(old, new)))
            choice = "second" if prefer == "second" else "first"
        if choice == "second":
            held[new.id] = new
            self.replaced.append(new.id)
        else:
            self.kept.append(new.id)


def _choose_record(old: Record, new: Record) -> Literal["same", "first", "second", "conflict"]:
    if not _differences(old, new):
        return "second" if new.found and not old.found else "same"
    if old.status == new.status == "done":
        return "conflict"
    return "second" if (new.status == "done", new.ended) > (old.status == "done", old.ended) else "first"


def _differences(old: Record, new: Record) -> list[str]:
    return differences(publishable(old).outcome(), publishable(new).outcome(), declared=new.measures)


def _choose_study(old: Study, new: Study) -> Literal["same", "conflict"]:
    return "conflict" if _trial_differences(old, new) else "same"


def _trial_differences(old: Study, new: Study) -> list[str]:
    return differences(_outcome(old), _outcome(new), "trials", declared=[new.main])


def _outcome(study: Study) -> list[dict[str, Any]]:
    """What a study found, without what it took."""
    return [trial.model_dump(mode="json", exclude={"seconds"}) for trial in publishable_study(study).trials]


def _explain_record(old: Record, new: Record) -> str:
    cell = old.cell
    pair = f"{cell.teacher.model} -> {cell.student}" if cell.teacher else str(cell.student)
    what = f"{cell.strategy.name} {pair} on {cell.data.name}, seed {cell.seed}"
    first, second = _result_text(old), _result_text(new)
    if first != second:
        return f"record {old.id} ({what}): {first} and {second}"
    return f"record {old.id} ({what}): {first} in both, and {differences_text(_differences(old, new))}"


def _result_text(record: Record) -> str:
    main = record.main
    score = main.text(record.test[main.name]) if record.test else "no measure"
    return f"{score}, evaluation {record.evaluation}"


def _explain_study(old: Study, new: Study) -> str:
    plan = old.plan
    what = f"{plan.strategy.name} {plan.teacher.model} -> {plan.student} on {plan.data.name}"
    found = _trial_differences(old, new)
    return f"study {old.id} ({what}): its trials gave other results: {differences_text(found)}"


@dataclass(frozen=True)
class Contents:
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


def read_source(folder: Path) -> Contents:
    """What a store or a published folder offers.

    Raises:
        UsageError: it is neither, or a newer store.
    """
    if is_store(folder):
        return read_store(folder)
    if not is_published(folder):
        raise UsageError(f"{folder} is neither a store of runs nor a published folder; `kdzoo bench` makes the first")
    found = read_leaderboard(folder)
    return Contents(tuple(map(publishable, found.records)), tuple(map(publishable_study, found.studies)), found.faults)


def read_store(folder: Path) -> Contents:
    """What a store offers. It may be somebody else's: sizes are bounded and no link is followed.

    Raises:
        UsageError: it is no store, or a newer one.
    """
    store = Store.open(folder)
    reading = Reading(folder)
    records: dict[str, Record] = {}
    for path in _files(reading, store.cells, "*/record.json"):
        record = _read(reading, path, path.parent.name, bounded_record)
        if record is not None:
            records[record.id] = record
    studies = []
    for path in _files(reading, store.studies, "*.json"):
        study = _read(reading, path, path.stem, bounded_study)
        if study is not None and study.finished:
            studies.append(study)
    reading.finish(store.cells.name)
    students = [record for record in records.values() if record.cell.kind == "student"]
    trainings = {training.id for record in students for training in trainings_of(record.cell)}
    return Contents(
        records=tuple(map(publishable, [*students, *(records[each] for each in sorted(trainings & records.keys()))])),
        studies=tuple(map(publishable_study, studies)),
        faults=tuple(reading.faults),
    )


def _files(reading: Reading, place: Path, pattern: str) -> list[Path]:
    """The files of a folder of the store, which is no link, sorted."""
    if place.is_symlink():
        reading.faults.append(fault(place.name, "is a symbolic link, which is not followed"))
        return []
    found = list(itertools.islice(place.glob(pattern), MOST_FILES + 1))
    if len(found) > MOST_FILES:
        reason = f"the folder holds more than {MOST_FILES:,} files, and the rest is not read"
        reading.faults.append(fault(place.name, reason))
    return sorted(found[:MOST_FILES])


def _read(reading: Reading, path: Path, name: str, parse: Callable[[bytes, str], _T]) -> _T | None:
    inner = PurePosixPath(path.relative_to(reading.folder))
    if path.parent.is_symlink():
        reading.faults.append(fault(inner.parent, "is a symbolic link, which is not followed"))
        return None
    read = reading.value(inner, parse)
    if read is not None and read[0].id != name:
        reading.faults.append(fault(inner, f"is misplaced: it holds {read[0].id}"))
        return None
    return read and read[0]
