"""What must be true of one record, whatever else is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scipy.special import bdtrc

from kdzoo.cell import PROTOCOL
from kdzoo.leaderboard.layout import record_path
from kdzoo.leaderboard.private import place_named_in, publishable
from kdzoo.leaderboard.untrusted import Fault, fault
from kdzoo.record import EVALUATION, Measures, Record
from kdzoo.study import TRIAL_SEED

CHANCE = 0.01
"""How often a guess may score as a teacher does. The bench, which has the teacher's guesses, asks for more."""


def record_faults(records: Iterable[Record]) -> list[Fault]:
    """The faults of each record by itself."""
    return [fault(record_path(record), reason) for record in records for reason in _reasons(record)]


def remarks(records: Sequence[Record]) -> list[str]:
    """What is no fault, but stands apart on the board."""
    found = []
    for what, newest, versions in (
        ("evaluation", EVALUATION, [record.evaluation for record in records]),
        ("protocol", PROTOCOL, [record.cell.protocol for record in records]),
    ):
        for version in sorted({version for version in versions if version < newest}):
            found.append(
                f"records of {what} {version}, marked on the board and not mixed with today's {newest}: "
                f"{versions.count(version):,}"
            )
    vouched = [record for record in records if record.teacher and record.teacher.vouched]
    if vouched:
        found.append(
            f"records of teachers that are not above chance and were vouched for, marked on the board: {len(vouched):,}"
        )
    return found


def better_than_chance(measures: Measures, classes: int) -> bool:
    """Whether guessing one of equally frequent classes rarely scores so high, or all is right (exact binomial test)."""
    tail = bdtrc(measures.correct1 - 1, measures.n, 1 / classes) if measures.correct1 else 1.0
    return measures.correct1 == measures.n or bool(tail <= CHANCE)


def _reasons(record: Record) -> Iterator[str]:
    cell = record.cell
    if cell.kind == "trial":
        yield "is a trial of tuning, whose result belongs in its study; it is no record to publish"
    elif cell.seed == TRIAL_SEED:
        yield f"has the seed {TRIAL_SEED}, which belongs to the trials of tuning"
    if record.evaluation > EVALUATION or cell.protocol > PROTOCOL:
        yield (
            f"was made by a newer kdzoo (evaluation {record.evaluation}, protocol {cell.protocol}; this one knows "
            f"{EVALUATION} and {PROTOCOL}), so upgrade kdzoo"
        )
    if publishable(record).model_copy(update={"record_schema": record.record_schema}) != record:
        yield "holds a traceback or local paths; bring it here with `kdzoo publish`"
    elif place := place_named_in(record):
        yield place
    if record.status == "done":
        yield from _measured(record)


def _measured(record: Record) -> Iterator[str]:
    cell = record.cell
    data = cell.data
    whose = [("", record.tune, record.test)]
    if record.teacher:
        whose.append(("its teacher on ", record.teacher.tune, record.teacher.test))
    for who, tune, test in whose:
        for name, measures, n in (("tune", tune, data.tune), ("test", test, data.test)):
            if measures and measures.n != n:
                yield f"measured {who}{name} with {measures.n:,} samples, and the dataset has {n:,}"
    epochs = [line.epoch for line in record.curve]
    if len(epochs) != cell.recipe.epochs or epochs != list(range(len(epochs))):
        yield f"has a curve of {len(record.curve):,} lines, and its recipe {cell.recipe.epochs:,} epochs, one a line"
    elif record.tune and (last := record.curve[-1].tune_top1) is not None and last != record.tune.top1:
        yield f"ends its curve with top-1 {last:.4f}% on tune, and measured {record.tune.top1:.4f}%"
    if record.teacher and record.teacher.vouched:
        return  # a teacher that knows nothing may well teach to be wrong; the board says what it was
    if record.test and record.test.top1 <= 100 / data.num_classes:
        yield (
            f"is not above chance: top-1 {record.test.top1:.2f}% on test, with {data.num_classes:,} classes; find out "
            "why before it is published"
        )
    if record.teacher and not better_than_chance(record.teacher.test, data.num_classes):
        yield f"has a teacher no better than chance: top-1 {record.teacher.test.top1:.2f}% on test"
