"""What must be true of records together: whole rows, a baseline for each pair, one teacher; and what differs in two."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from kdzoo.board.labels import params_text
from kdzoo.cell import Cell, PairKey, RowKey
from kdzoo.leaderboard.layout import path_of_record
from kdzoo.leaderboard.untrusted import Fault, fault
from kdzoo.matrix import BASELINE
from kdzoo.measures import AGREEMENT, Measure, exact_scores, known, main_of
from kdzoo.needed import assistant_cells, teacher_cell
from kdzoo.needed import trainings as trainings_of
from kdzoo.record import Record
from kdzoo.record_parts import Size, TeacherMeasures

_Trainings: TypeAlias = dict[tuple[str, int], Record]
"""Cell and evaluation -> the done training of a teacher."""

_TRIAL = re.compile(r"curve\[\d+\]\Z")
_ON_TUNE = re.compile(r"curve\[\d+\](\.tune)?\Z")
"""After an epoch, of a record or of a trial: how often it is measured is for each bench to say."""
_MOST_SHOWN = 3


def group_faults(records: Sequence[Record]) -> list[Fault]:
    """The faults of rows, pairs and teachers."""
    students = [record for record in records if record.cell.kind == "student"]
    faults = []
    for rows in _by_pair(students):
        place = path_of_record(rows[0][0]).parent
        faults += [fault(place, reason) for reason in _row_faults(rows)]
    trainings = {
        (record.id, record.evaluation): record for record in records if record.cell.teaches and record.status == "done"
    }
    faults += [*_teachers(students, trainings), *_trainings(students, trainings)]
    return faults + list(_assistants(students, trainings))


def _by_pair(students: Iterable[Record]) -> list[list[list[Record]]]:
    """The records by pairs in their contexts, and there by rows."""
    pairs: dict[PairKey, dict[RowKey, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in students:
        key = record.cell.row_key(record.evaluation)
        pairs[key.pair][key].append(record)
    return [list(rows.values()) for rows in pairs.values()]


def row_text(cell: Cell) -> str:
    """What a row is called."""
    return f"{cell.strategy.name}{cell.mark} {params_text({**cell.strategy.params, **cell.recipe_changes})}".strip()


def _row_faults(rows: Sequence[Sequence[Record]]) -> Iterator[str]:
    """What is wrong with the rows of one pair, each given by its records."""
    baselines = [row for row in rows if row[0].cell.strategy.name == BASELINE]
    any_record = rows[0][0]
    recipe = any_record.cell.tuned_from or any_record.cell.recipe
    where = f"under the recipe {recipe.name}, evaluation {any_record.evaluation}"
    if not baselines:
        yield f"has no {BASELINE} row {where}: the pair has no baseline"
    elif any(_done(row) for row in rows) and not any(_done(row) for row in baselines):
        yield f"has no {BASELINE} seed that is done {where}"
    most = max((len(row) for row in baselines), default=0)
    for row in rows:
        seeds = sorted(record.cell.seed for record in row)
        lacking = sorted(set(range(max(len(seeds), most))) - set(seeds))
        if lacking:
            numbers = ", ".join(map(str, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
            yield (
                f"{row_text(row[0].cell)}: {len(seeds)} seeds {where}, without {numbers}; every row has the seeds "
                f"from 0 on, and at least the {most} of {BASELINE}"
            )
        sizes = {one.student for one in row if one.student}
        if len(sizes) > 1:
            sizes_text = " and ".join(f"{size.parameters:,} parameters, {size.macs:,} MACs" for size in _sorted(sizes))
            yield f"{row_text(row[0].cell)}: its seeds {where} are students of different size: {sizes_text}"


def _sorted(sizes: Iterable[Size]) -> list[Size]:
    return sorted(sizes, key=lambda size: (size.parameters, size.macs))


def _done(row: Sequence[Record]) -> bool:
    return any(record.status == "done" for record in row)


def _teachers(students: Sequence[Record], trainings: _Trainings) -> Iterator[Fault]:
    """Records that saw another teacher than most records that name the same one, and trainings that made another."""
    seen: dict[Hashable, list[tuple[Record, TeacherMeasures]]] = defaultdict(list)
    for record in students:
        if record.cell.teacher and record.teacher:
            teacher = record.cell.row_key(record.evaluation).teacher
            seen[record.cell.data, teacher, record.evaluation].append((record, record.teacher))
    for members in seen.values():
        declared = members[0][0].measures
        usual = _usual([measured for _, measured in members], declared)
        example = next(record for record, measured in members if measured == usual)
        expected = _measured(usual)
        for record, measured in members:
            if found := differences(expected, _measured(measured), declared=declared):
                yield fault(
                    path_of_record(record),
                    f"had another teacher than {example.id}, under the same name: {differences_text(found)}",
                )
        for training, measured in _own_trainings(example, usual, trainings):
            if found := differences(_measured(measured), _made(training), declared=declared):
                yield fault(
                    path_of_record(training),
                    f"differs from the teacher that {example.id} and others measured: {differences_text(found)}",
                )


def _usual(measured: Sequence[TeacherMeasures], declared: Sequence[Measure]) -> TeacherMeasures:
    """The most frequent of the measurements, where those that agree but for rounding count as one."""
    exact = [(one.size, exact_scores(one.tune, declared), exact_scores(one.test, declared)) for one in measured]
    most = Counter(exact).most_common(1)[0][0]
    return next(one for one, scores in zip(measured, exact, strict=True) if scores == most)


def _own_trainings(
    student: Record, taught: TeacherMeasures, trainings: _Trainings
) -> Iterator[tuple[Record, TeacherMeasures]]:
    """The trainings of a student's teachers by the same evaluation, each with what was measured of that teacher."""
    cell = student.cell
    parts = cell.teacher.parts if cell.teacher else ()
    for part, measured in zip(parts, taught.members or (taught,), strict=False):
        made = teacher_cell(part, cell.data, cell.protocol)
        if made and (found := trainings.get((made.id, student.evaluation))):
            yield found, measured


def _assistants(students: Sequence[Record], trainings: _Trainings) -> Iterator[Fault]:
    """Records that tell of their assistants otherwise than these tell of themselves."""
    for record in students:
        expected = [cell.id for cell in assistant_cells(record.cell)]
        if record.status == "done" and [one.cell for one in record.assistants] != expected:
            yield fault(path_of_record(record), "tells of other assistants than its cell has")
        for one in record.assistants:
            own = trainings.get((one.cell, record.evaluation))
            told = one.model_dump(mode="json", include={"size", "tune", "test"})
            if own and (found := differences(told, _made(own), declared=record.measures)):
                yield fault(path_of_record(record), f"differs from its assistant {one.cell}: {differences_text(found)}")


_NO_MEASURE = {"vouched", "weights"}


def _measured(teacher: TeacherMeasures) -> dict[str, Any]:
    """What was measured of a teacher; whether it was vouched for is no measure, and a digest depends on the machine."""
    exclude: dict[str, Any] = dict.fromkeys(_NO_MEASURE, True) | {"members": {"__all__": _NO_MEASURE}}
    return teacher.model_dump(mode="json", exclude=exclude)


def _made(training: Record) -> dict[str, Any]:
    """What a training measured, as its students tell of their teacher."""
    measured = training.model_dump(mode="json")
    measured["test"].pop(AGREEMENT.name, None)  # of an assistant; of its teacher a student does not tell it
    return {"size": measured["student"], "tune": measured["tune"], "test": measured["test"]}


def _trainings(students: Sequence[Record], trainings: _Trainings) -> Iterator[Fault]:
    """Teachers that were trained for these students, and whose training is not here."""
    done = {name for name, _ in trainings}
    reported: set[tuple[PurePosixPath, str]] = set()
    for record in students:
        if record.status != "done":
            continue
        place = path_of_record(record).parent
        for training in trainings_of(record.cell):
            if training.id not in done and (place, training.id) not in reported:
                reported.add((place, training.id))
                yield fault(
                    place,
                    f"lacks the training of its {training.kind} {training.student}, {training.id}; publish it from its "
                    "runs",
                )


def differences(first: Any, second: Any, place: str = "", declared: Sequence[Measure] = ()) -> list[str]:
    """Where two values of JSON differ, as ``test.nll 0.12 and 0.34``; nothing where they agree.

    They agree if they are equal, or within the tolerance of a measure that adds up fractions.

    Args:
        first, second: what ``model_dump(mode="json")`` gives of two measurements.
        place: what to call them; empty for the whole.
        declared: the measures that are not kdzoo's own; each measure says how nearly two of its values must agree.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        names = sorted(first.keys() | second.keys())
        return [
            difference
            for name in names
            for difference in differences(
                first.get(name), second.get(name), f"{place}.{name}" if place else name, declared
            )
        ]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [
            difference
            for number, (one, other) in pairs
            for difference in differences(one, other, f"{place}[{number}]", declared)
        ]
    measure = main_of(declared) if _TRIAL.search(place) else known(declared).get(place.rpartition(".")[2])
    if first == second or (measure and _near(first, second, measure.tolerance)):
        return []
    if (first is None or second is None) and _ON_TUNE.search(place):
        return []
    return [f"{place} {_text(first)} and {_text(second)}"]


def differences_text(found: list[str]) -> str:
    """The first of the differences, in one line."""
    more = len(found) - _MOST_SHOWN
    return ", ".join(found[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _near(first: Any, second: Any, tolerance: float) -> bool:
    return isinstance(first, int | float) and isinstance(second, int | float) and abs(first - second) <= tolerance


def _text(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else "nothing" if value is None else repr(value)
