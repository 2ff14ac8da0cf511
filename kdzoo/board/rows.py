"""Records and planned cells -> rows, the seeds of one setting on one pair; and the lines of a board made of them.

Of a record boards use a small part: a hundred thousand records fit in memory so, their curves would not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kdzoo.board.labels import OWN_DISTRIBUTION
from kdzoo.board.tuned import Budget, Tuning
from kdzoo.cell import Cell, RowKey
from kdzoo.foreign import MOST_OF_A_REASON, bounded
from kdzoo.measures import SAMPLES, TOP1, Measure
from kdzoo.record import EVALUATION, Summary
from kdzoo.record_parts import Found
from kdzoo.refs import StrategyRef

BASELINES = ("ce", "soft")
"""The strategies that the others are compared with."""


class TeacherResult(NamedTuple):
    """A teacher as a record has it; its score is the main measure on test."""

    score: float
    parameters: int
    macs: int
    vouched: bool


class Timing(NamedTuple):
    """What a done cell took, by the names of measures, and where: seconds compare only between equal machines, and not
    where they hold the time that compiling took."""

    cost: Mapping[str, float]
    machine: tuple[str, int]
    compiled: bool


class Result(NamedTuple):
    """One seed of a row. A failed one has a reason in the place of scores.

    Attributes:
        measures: the declarations of the measures that are not kdzoo's own.
        scores: column of the frame -> number: the measures on test, the main one on tune, and the sizes.
        found: what the race had seen that chose the setting: strategies and trials; None where none did.
    """

    id: str
    ended: str
    family: str
    measures: tuple[Measure, ...]
    teacher: TeacherResult | None
    scores: Mapping[str, float] | None
    timing: Timing | None
    reason: str
    found: tuple[int, int] | None = None

    def differs(self, other: Result) -> bool:
        """Whether both are done and do not agree on what was measured."""
        return self.scores is not None and other.scores is not None and self.scores != other.scores

    def precedence(self) -> tuple[bool, str, str]:
        """Of two results of one cell the higher is used: done before failed, then the later one."""
        return self.scores is not None, self.ended, repr(self)


def result_of(record: Summary) -> Result:
    """The result that a record holds."""
    main, teacher, timing = record.main, None, None
    scores = dict(_scores(record))
    if scores and record.cost:
        machine = (record.environment.device, record.environment.threads)
        timing = Timing(record.cost, machine, record.environment.compiled)
    if record.teacher is not None:
        size = record.teacher.size
        teacher = TeacherResult(record.teacher.test[main.name], size.parameters, size.macs, record.teacher.vouched)
    return Result(
        record.id,
        record.ended,
        record.family,
        record.measures,
        teacher,
        scores or None,
        timing,
        bounded(record.reason, MOST_OF_A_REASON),
        (record.found.strategies, record.found.trials) if record.found else None,
    )


def _scores(record: Summary) -> Iterator[tuple[str, float]]:
    """What was measured of a done student; nothing of another one."""
    if record.status == "done" and record.test and record.tune and record.student and record.cost:
        yield from ((name, value) for name, value in record.test.items() if name != SAMPLES)
        yield record.main.on("tune"), record.tune[record.main.name]
        yield "student_parameters", record.student.parameters
        yield "student_macs", record.student.macs
        yield "adapter_parameters", record.adapter_parameters


class SeedResult(NamedTuple):
    """A student's record as boards see it: its row, its seed, its result."""

    key: RowKey
    seed: int
    result: Result


def seed_result(record: Summary) -> SeedResult | None:
    """What boards use of a student's record; a teacher's training and a tuning trial have nothing for them."""
    cell = record.cell
    if cell.kind != "student":
        return None
    return SeedResult(cell.row_key(record.evaluation), cell.seed, result_of(record))


@dataclass(slots=True)
class RowSeeds:
    """The seeds of a row: done (in their order), failed or missing."""

    done: dict[int, Result] = field(default_factory=dict)
    failed: dict[int, Result] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)

    @property
    def found(self) -> Found | None:
        """What the race had seen that chose the row; of several that which saw most."""
        seen = [result.found for result in (*self.done.values(), *self.failed.values()) if result.found]
        if not seen:
            return None
        strategies, trials = max(seen, key=lambda one: (one[1], one[0]))
        return Found(strategies=strategies, trials=trials)

    @property
    def seeds(self) -> list[int]:
        """All seeds that were asked for, ascending."""
        return sorted({*self.done, *self.failed, *self.missing})


class BoardRows:
    """All rows of a board. Only cells of students are rows: a teacher's training and a tuning trial are none.

    A planned cell without a record is a missing seed of its row, as the newest evaluation there measured it. So is one
    that only an older evaluation measured: what it measured stands in a row of its own.

    Args:
        records: records, or what boards use of them; in any order, read once.
        planned: the cells that were asked for, in any order, with and without a record.

    Attributes:
        rows: by their keys.
        conflicts: row and seed of each cell that has several different results.
    """

    def __init__(self, records: Iterable[Summary | SeedResult], planned: Iterable[Cell] = ()) -> None:
        self.rows: dict[RowKey, RowSeeds] = {}
        self.conflicts: set[tuple[RowKey, int]] = set()
        for record in records:
            found = record if isinstance(record, SeedResult) else seed_result(record)
            if found is not None:
                self._add(*found)
        newest: dict[RowKey, int] = {}
        for key in self.rows:
            unmeasured = key._replace(evaluation=0)
            newest[unmeasured] = max(key.evaluation, newest.get(unmeasured, 0))
        asked = [
            (key._replace(evaluation=latest), seed)
            for key, row in self.rows.items()
            if key.evaluation < (latest := newest[key._replace(evaluation=0)])
            for seed in row.seeds
        ]
        for cell in planned:
            if cell.kind == "student":
                key = cell.row_key(0)
                asked.append((key._replace(evaluation=newest.get(key, EVALUATION)), cell.seed))
        for key, seed in asked:
            row = self.rows.setdefault(key, RowSeeds())
            if seed not in row.done and seed not in row.failed:
                row.missing.add(seed)
        for row in self.rows.values():
            row.done = dict(sorted(row.done.items()))

    def _add(self, key: RowKey, seed: int, result: Result) -> None:
        row = self.rows.setdefault(key, RowSeeds())
        twin = row.done.pop(seed, None) or row.failed.pop(seed, None)
        if twin is not None and twin.differs(result):
            self.conflicts.add((key, seed))
        used = result if twin is None else max(twin, result, key=Result.precedence)
        (row.failed if used.scores is None else row.done)[seed] = used


@dataclass
class BoardLine:
    """One line of a board: a row on one pair.

    Attributes:
        row: its seeds.
        strategy: the strategy with its parameters.
        changes: what tuning changed in the recipe, by full name.
        tuning: what studies say of it.
        text: what the line is called, variant and parameters included.
        label: what the strategy is called.
        params: its parameters, changes and balance as JSON.
        balanced: whether its terms are.
        values: the line's columns, as far as they are known.
        vouched: whether its teacher taught only because somebody vouched for it.
        main: the measure that ranks it.
    """

    row: RowSeeds
    strategy: StrategyRef
    changes: dict[str, Any]
    tuning: Tuning
    text: str
    label: str
    params: str
    balanced: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    vouched: bool = False
    main: Measure = TOP1


def baselines_of(lines: Sequence[BoardLine], name: str) -> list[BoardLine | None]:
    """What each line of a pair is compared with: never chosen by its result.

    It is the line of that name which no search made: of several that of kdzoo, then a study's trial 0, then one whose
    terms are not balanced, then that with most seeds, then by parameters. A line that a search made is compared with
    the line of that name which a search of the same budget made, if there is one; the winners of the baseline's own
    searches are not, so that what tuning gave the baseline can be seen.
    """
    named = sorted((line for line in lines if line.strategy.name == name), key=_precedence)
    plain = next((line for line in named if line.tuning.plain and not line.changes), None)
    tuned = [(line, line.tuning.budgets) for line in named if line.tuning.won]
    return [_tuned_alike(line, tuned) or plain for line in lines]


def _tuned_alike(line: BoardLine, tuned: Sequence[tuple[BoardLine, set[Budget]]]) -> BoardLine | None:
    budgets = line.tuning.budgets
    own = line.strategy.version
    return next((other for other, theirs in tuned if budgets & theirs and other.strategy.version != own), None)


def _precedence(line: BoardLine) -> tuple[bool, bool, bool, int, str, str]:
    foreign = line.strategy.distribution != OWN_DISTRIBUTION
    return foreign, not line.tuning.default, line.balanced, -len(line.row.done), line.label, line.params
