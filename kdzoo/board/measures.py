"""What the rows of one pair measured: each row by itself, and against the pair's baselines and its teacher."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

from kdzoo.board.lines import BASELINES, Line, baselines_of
from kdzoo.board.results import Scores, Teacher, Timing
from kdzoo.board.rows import Row
from kdzoo.board.stats import Estimate, estimate, gaps_recovered, holm, paired_difference
from kdzoo.board.times import Seconds, time_values


def fill_pair(lines: Sequence[Line]) -> list[str]:
    """Compute the columns of all rows of one pair in one context.

    Returns:
        Remarks on the teacher: that it was vouched for, that the records do not agree on its measures.
    """
    taught_by = _teachers(lines)
    teacher_top1, teacher_values, remarks = _teacher(taught_by)
    for line in lines:
        line.vouched = any(teacher.vouched for teacher in taught_by)
        line.values.update(teacher_values)
        line.values.update(_own(line.row))
        student = line.values["student_parameters"]
        teacher = teacher_values["teacher_parameters"]
        line.values["compression"] = teacher / student if teacher and student else None
        top1 = line.values["top1"]
        line.values["retention"] = top1 / teacher_top1 if top1 is not None and teacher_top1 else None
    for name in BASELINES:
        baselines = baselines_of(lines, name)
        _compare(lines, name, baselines)
        if name == "ce":
            gaps = _gaps(lines, baselines, teacher_top1)
            for line, baseline, gap in zip(lines, baselines, gaps, strict=True):
                _against_ce(line, baseline, gap)
    return remarks


def _teachers(lines: Sequence[Line]) -> set[Teacher]:
    """The teacher, in each way in which the records tell of it."""
    return {
        result.teacher
        for line in lines
        for result in (*line.row.done.values(), *line.row.failed.values())
        if result.teacher is not None
    }


def _teacher(measured: Collection[Teacher]) -> tuple[float | None, dict[str, Any], list[str]]:
    tops = sorted({teacher.top1 for teacher in measured})
    top1 = _mean(tops)
    values = {
        "teacher_parameters": max((teacher.parameters for teacher in measured), default=None),
        "teacher_macs": max((teacher.macs for teacher in measured), default=None),
        "teacher_top1": top1,
    }
    remarks = []
    if any(teacher.vouched for teacher in measured):
        remarks.append("the teacher is not above chance on test, and was vouched for (--trust-teacher)")
    if len(tops) > 1:
        remarks.append(f"the teacher's test top-1 is {tops[0]:.2f} to {tops[-1]:.2f} in the records, mean used")
    return top1, values, remarks


def _own(row: Row) -> dict[str, Any]:
    """The columns that a row has by itself. Every mean is over the done seeds."""
    recorded = {**row.done, **row.failed}
    scores = _columns(Scores, [result.scores for result in row.done.values() if result.scores is not None])
    timing = _columns(Timing, [result.timing for result in row.done.values() if result.timing is not None])
    top1 = estimate(scores.top1)
    return {
        "family": min((result.family for result in recorded.values()), default=""),
        "student_parameters": max(scores.parameters, default=None),
        "student_macs": max(scores.macs, default=None),
        "adapter_parameters": max(scores.adapter_parameters, default=None),
        "seeds": len(row.seeds),
        "done": len(row.done),
        "failed": len(row.failed),
        "missing": len(row.missing),
        "top1": top1.mean,
        "top1_sd": top1.sd,
        "top1_low": top1.low,
        "top1_high": top1.high,
        "top1_note": top1.note,
        "top5": _mean(scores.top5),
        "nll": _mean(scores.nll),
        "ece": _mean(scores.ece),
        "agreement": _mean([one for one in scores.agreement if one is not None]),
        "tune_top1": _mean(scores.tune_top1),
        "train_seconds": _mean(timing.train),
        "teacher_seconds": _mean(timing.teacher),
        "peak_memory": max(timing.peak_memory, default=None),
        "records": " ".join(recorded[seed].id for seed in sorted(recorded)),
    }


def _columns(kind: Any, rows: Sequence[tuple[Any, ...]]) -> Any:
    """Named tuples of one kind -> one that has a column of values in the place of each value."""
    return kind(*(zip(*rows, strict=True) if rows else ((),) * len(kind._fields)))


def _compare(lines: Sequence[Line], name: str, baselines: Sequence[Line | None]) -> None:
    """Fill the columns ``diff_NAME…``; the correction is over all rows of the pair that have a p value."""
    lacking = f"no default {name} row" if any(line.strategy.name == name for line in lines) else f"no {name} row"
    differences = [_difference(line, baseline, lacking) for line, baseline in zip(lines, baselines, strict=True)]
    adjusted = holm([difference.p for difference in differences])
    prefix = f"diff_{name}"
    for line, baseline, difference, p_holm in zip(lines, baselines, differences, adjusted, strict=True):
        line.values |= {
            prefix: difference.mean,
            f"{prefix}_low": difference.low,
            f"{prefix}_high": difference.high,
            f"{prefix}_p": difference.p,
            f"{prefix}_p_holm": p_holm,
            f"{prefix}_n": difference.n,
            f"{prefix}_note": difference.note,
            f"{prefix}_to": baseline.text if baseline else "",
            f"{prefix}_to_variant": baseline.tuning.variant if baseline else "",
        }
        if name == "ce":
            line.values["bold"] = difference.excludes_zero


def _difference(line: Line, baseline: Line | None, lacking: str) -> Estimate:
    if baseline is None:
        return Estimate(0, None, note=lacking)
    if baseline is line:
        return Estimate(0, None, note="baseline")
    own, other = _paired(line, baseline)
    if not own:
        return Estimate(0, None, note="no shared seed" if line.row.done else "no seed done")
    return paired_difference(own, other)


def _gaps(lines: Sequence[Line], baselines: Sequence[Line | None], teacher_top1: float | None) -> list[Estimate]:
    """The share of the gap to the teacher that each line recovered."""
    compared = list(zip(lines, baselines, strict=True))
    lacking = [line.values["diff_ce_note"] if baseline is None else "" for line, baseline in compared]
    if teacher_top1 is None:
        return [Estimate(0, None, note=note or "no teacher") for note in lacking]
    pairs = [([], []) if baseline is None else _paired(line, baseline) for line, baseline in compared]
    gaps = gaps_recovered(pairs, teacher_top1)
    return [Estimate(0, None, note=note) if note else gap for note, gap in zip(lacking, gaps, strict=True)]


def _against_ce(line: Line, baseline: Line | None, gap: Estimate) -> None:
    line.values |= time_values([] if baseline is None else _paired_seconds(line, baseline))
    line.values |= {
        "gap_recovered": gap.mean,
        "gap_recovered_low": gap.low,
        "gap_recovered_high": gap.high,
        "gap_recovered_n": gap.n,
        "gap_recovered_note": "baseline" if line is baseline and gap.mean is not None else gap.note,
    }


def _paired(line: Line, baseline: Line) -> tuple[list[float], list[float]]:
    """Top-1 of both on the seeds that both have."""
    pairs = [
        (own.scores.top1, other.scores.top1)
        for seed, own in line.row.done.items()
        if (other := baseline.row.done.get(seed)) is not None and own.scores is not None and other.scores is not None
    ]
    return [own for own, _ in pairs], [other for _, other in pairs]


def _paired_seconds(line: Line, baseline: Line) -> list[Seconds]:
    """Seconds of training of both, for the seeds that both ran on the same kind of device with as many threads."""
    return [
        Seconds(own.timing.train, other.timing.train, own.timing.machine, own.timing.compiled or other.timing.compiled)
        for seed, own in line.row.done.items()
        if (other := baseline.row.done.get(seed)) is not None
        and own.timing is not None
        and other.timing is not None
        and own.timing.machine == other.timing.machine
    ]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
