"""The part of a record that boards use; a hundred thousand records fit in memory so, their curves would not."""

from __future__ import annotations

from typing import NamedTuple

from kdzoo.foreign import MOST_OF_A_REASON, bounded
from kdzoo.record import Summary


class Teacher(NamedTuple):
    """A teacher as a record tells of it; top-1 on test, percent, and whether somebody vouched for it."""

    top1: float
    parameters: int
    macs: int
    vouched: bool


class Scores(NamedTuple):
    """What a done cell measured. Units as in :class:`kdzoo.record.Record`."""

    top1: float
    top5: float
    nll: float
    ece: float
    tune_top1: float
    agreement: float | None
    parameters: int
    macs: int
    adapter_parameters: int


class Timing(NamedTuple):
    """What a done cell took, and where: seconds compare only between equal machines, and not where they hold the time
    that compiling took."""

    train: float
    teacher: float
    peak_memory: int
    machine: tuple[str, int]
    compiled: bool


class Result(NamedTuple):
    """One seed of a row. A failed one has a reason in the place of scores."""

    id: str
    ended: str
    family: str
    teacher: Teacher | None
    scores: Scores | None
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
    scores = timing = teacher = None
    if record.status == "done" and record.test and record.tune and record.student and record.cost:
        scores = Scores(
            top1=record.test.top1,
            top5=record.test.top5,
            nll=record.test.nll,
            ece=record.test.ece,
            tune_top1=record.tune.top1,
            agreement=record.agreement,
            parameters=record.student.parameters,
            macs=record.student.macs,
            adapter_parameters=record.adapter_parameters,
        )
        machine = (record.environment.device, record.environment.threads)
        timing = Timing(
            record.cost.train, record.cost.teacher, record.cost.peak_memory, machine, record.environment.compiled
        )
    if record.teacher is not None:
        size = record.teacher.size
        teacher = Teacher(record.teacher.test.top1, size.parameters, size.macs, record.teacher.vouched)
    return Result(
        record.id, record.ended, record.family, teacher, scores, timing, bounded(record.reason, MOST_OF_A_REASON)
    )
