"""The part of a record that boards use; a hundred thousand records fit in memory so, their curves would not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kdzoo.foreign import MOST_OF_A_REASON, bounded
from kdzoo.measures import SAMPLES, Measure
from kdzoo.record import Summary


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
    """

    id: str
    ended: str
    family: str
    measures: tuple[Measure, ...]
    teacher: TeacherResult | None
    scores: Mapping[str, float] | None
    timing: Timing | None
    reason: str

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
    )


def _scores(record: Summary) -> Iterator[tuple[str, float]]:
    """What was measured of a done student; nothing of another one."""
    if record.status == "done" and record.test and record.tune and record.student and record.cost:
        yield from ((name, value) for name, value in record.test.items() if name != SAMPLES)
        yield record.main.on("tune"), record.tune[record.main.name]
        yield "student_parameters", record.student.parameters
        yield "student_macs", record.student.macs
        yield "adapter_parameters", record.adapter_parameters
