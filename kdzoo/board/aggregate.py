"""What the rows of one pair measured: each row by itself, and against the pair's baselines and its teacher."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from kdzoo.board.rows import BASELINES, BoardLine, Result, RowSeeds, TeacherResult, baselines_of
from kdzoo.board.stats import Estimate, estimate, gaps_recovered, holm, paired_difference
from kdzoo.measures import ASSISTANTS, BALANCE, COST, IMAGES, PEER, TOP1, TRAIN, Measure, main_of


def measures_of(results: Sequence[Result]) -> dict[str, Measure]:
    """The measures of results by name, the main one first.

    Where several declarations have one name, as after a plugin changed its own, the one that sorts last is used.
    """
    declared = sorted({measure for result in results for measure in result.measures}, key=repr)
    main = main_of(declared)
    scored = {name for result in results if result.scores is not None for name in result.scores}
    images = [measure for measure in IMAGES if main is TOP1 or measure.name in scored]
    spent = {name for result in results if result.timing is not None for name in result.timing.cost}
    rare = [measure for measure in (PEER, ASSISTANTS, BALANCE) if measure.name in spent | scored]
    return {measure.name: measure for measure in (main, *images, *COST, *rare, *declared)}


def fill_pair(lines: Sequence[BoardLine]) -> tuple[list[str], list[Measure]]:
    """Compute the columns of all rows of one pair in one context.

    Returns:
        Remarks on the teacher: that it was vouched for, that the records do not agree on its measures; and all measures
        of the rows, the main one first.
    """
    results = [result for line in lines for result in (*line.row.done.values(), *line.row.failed.values())]
    measures = measures_of(results)
    main = next(iter(measures.values()))
    taught_by = {result.teacher for result in results if result.teacher is not None}
    score, teacher_values, remarks = _teacher(taught_by, main)
    for line in lines:
        line.main = main
        line.vouched = any(teacher.vouched for teacher in taught_by)
        line.values.update(teacher_values)
        line.values.update(_own(line.row, measures, main))
        student = line.values["student_parameters"]
        teacher = teacher_values["teacher_parameters"]
        line.values["compression"] = teacher / student if teacher and student else None
        line.values["retention"] = _retention(line.values[main.name], score, main)
    for name in BASELINES:
        baselines = baselines_of(lines, name)
        _compare(lines, name, baselines)
        if name == "ce":
            gaps = _gaps(lines, baselines, score, main)
            for line, baseline, gap in zip(lines, baselines, gaps, strict=True):
                _against_ce(line, baseline, gap)
    return remarks, list(measures.values())


def _teacher(measured: Collection[TeacherResult], main: Measure) -> tuple[float | None, dict[str, Any], list[str]]:
    scores = sorted({teacher.score for teacher in measured})
    score = _mean(scores)
    values = {
        "teacher_parameters": max((teacher.parameters for teacher in measured), default=None),
        "teacher_macs": max((teacher.macs for teacher in measured), default=None),
        main.on("teacher"): score,
    }
    remarks = []
    if any(teacher.vouched for teacher in measured):
        remarks.append("the teacher is not above chance on test, and was accepted by --trust-teacher")
    if len(scores) > 1:
        low, high = (f"{end:.{main.digits}f}" for end in (scores[0], scores[-1]))
        remarks.append(f"the teacher's test {main.title} is {low} to {high} in the records, mean used")
    return score, values, remarks


def _retention(score: float | None, teacher: float | None, main: Measure) -> float | None:
    """The share of the teacher's score; none where the teacher's is not above 0, or lower scores are better."""
    return None if score is None or not teacher or teacher < 0 or main.best == "lowest" else score / teacher


def _own(row: RowSeeds, measures: Mapping[str, Measure], main: Measure) -> dict[str, Any]:
    """The columns that a row has by itself. Every mean is over the done seeds."""
    recorded = {**row.done, **row.failed}
    scores = [result.scores for result in row.done.values() if result.scores is not None]
    costs = [result.timing.cost for result in row.done.values() if result.timing is not None]
    known = estimate(_values(scores, main.name))
    found = {
        "family": min((result.family for result in recorded.values()), default=""),
        **{name: max(_values(scores, name), default=None) for name in _SIZES},
        "seeds": len(row.seeds),
        "done": len(row.done),
        "failed": len(row.failed),
        "missing": len(row.missing),
        f"{main.name}_sd": known.sd,
        f"{main.name}_low": known.low,
        f"{main.name}_high": known.high,
        f"{main.name}_note": known.note,
        main.on("tune"): _mean(_values(scores, main.on("tune"))),
        "records": " ".join(recorded[seed].id for seed in sorted(recorded)),
    }
    for name, measure in measures.items():
        if measure.shown:
            values = _values(costs if measure.volatile else scores, name)
            found[measure.column] = max(values, default=None) if measure.over_seeds == "max" else _mean(values)
    return found


_SIZES = ("student_parameters", "student_macs", "adapter_parameters")


def _values(results: Sequence[Mapping[str, float]], name: str) -> list[float]:
    return [result[name] for result in results if name in result]


def _compare(lines: Sequence[BoardLine], name: str, baselines: Sequence[BoardLine | None]) -> None:
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


def _difference(line: BoardLine, baseline: BoardLine | None, lacking: str) -> Estimate:
    if baseline is None:
        return Estimate(0, None, note=lacking)
    if baseline is line:
        return Estimate(0, None, note="baseline")
    own, other = _paired(line, baseline)
    if not own:
        return Estimate(0, None, note="no shared seed" if line.row.done else "no seed done")
    return paired_difference(own, other)


def _gaps(
    lines: Sequence[BoardLine], baselines: Sequence[BoardLine | None], teacher: float | None, main: Measure
) -> list[Estimate]:
    """The share of the gap to the teacher that each line recovered."""
    compared = list(zip(lines, baselines, strict=True))
    lacking = [line.values["diff_ce_note"] if baseline is None else "" for line, baseline in compared]
    if teacher is None:
        return [Estimate(0, None, note=note or "no teacher") for note in lacking]
    pairs = [([], []) if baseline is None else _paired(line, baseline) for line, baseline in compared]
    if main.best == "lowest":  # a gap counts upwards
        pairs = [([-one for one in own], [-one for one in other]) for own, other in pairs]
    gaps = gaps_recovered(pairs, main.sign * teacher)
    return [Estimate(0, None, note=note) if note else gap for note, gap in zip(lacking, gaps, strict=True)]


def _against_ce(line: BoardLine, baseline: BoardLine | None, gap: Estimate) -> None:
    line.values |= time_values([] if baseline is None else _paired_seconds(line, baseline))
    line.values |= {
        "gap_recovered": gap.mean,
        "gap_recovered_low": gap.low,
        "gap_recovered_high": gap.high,
        "gap_recovered_n": gap.n,
        "gap_recovered_note": "baseline" if line is baseline and gap.mean is not None else gap.note,
    }


def _paired(line: BoardLine, baseline: BoardLine) -> tuple[list[float], list[float]]:
    """The main measure of both on the seeds that both have."""
    name = line.main.name
    pairs = [
        (own.scores[name], other.scores[name])
        for seed, own in line.row.done.items()
        if (other := baseline.row.done.get(seed)) is not None and own.scores is not None and other.scores is not None
    ]
    return [own for own, _ in pairs], [other for _, other in pairs]


def _paired_seconds(line: BoardLine, baseline: BoardLine) -> list[PairedSeconds]:
    """Seconds of training of both, for the seeds that both ran on the same kind of device with as many threads."""
    return [
        PairedSeconds(
            own.timing.cost[TRAIN.name],
            other.timing.cost[TRAIN.name],
            own.timing.machine,
            own.timing.compiled or other.timing.compiled,
        )
        for seed, own in line.row.done.items()
        if (other := baseline.row.done.get(seed)) is not None
        and own.timing is not None
        and other.timing is not None
        and own.timing.machine == other.timing.machine
    ]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


UNSTEADY = "unsteady"
COMPILED = "compiled"
STEADY = 1.5
"""The slowest seed of a row may take so many times what the fastest takes."""


class PairedSeconds(NamedTuple):
    """Seconds of training of one seed, of a row and of its baseline, and where both ran."""

    own: float
    other: float
    machine: Hashable
    compiled: bool = False


def time_values(seconds: Sequence[PairedSeconds]) -> dict[str, Any]:
    """The columns ``time_vs_ce...``: the median of the seeds' ratios, and their range.

    There is none if the seconds of the row, or of its baseline, differ by more than :data:`STEADY` times between seeds
    on one machine: other load is the likely cause. Nor is there any if networks were compiled, because compilation is
    part of the seconds, mostly of the first cell of a process.

    Args:
        seconds: one per seed that both have.
    """
    ratios = [one.own / one.other for one in seconds if one.other > 0]
    found: dict[str, Any] = {"time_vs_ce": None, "time_vs_ce_low": None, "time_vs_ce_high": None}
    if len(ratios) == len(seconds) > 0:
        unsteady = UNSTEADY if _spread(seconds) > STEADY else ""
        note = COMPILED if any(one.compiled for one in seconds) else unsteady
        if not note:
            found = {"time_vs_ce": median(ratios), "time_vs_ce_low": min(ratios), "time_vs_ce_high": max(ratios)}
    else:
        note = "no shared seed"
    return found | {"time_vs_ce_n": len(seconds), "time_vs_ce_note": note}


def _spread(seconds: Sequence[PairedSeconds]) -> float:
    """How many times the fastest seed the slowest takes, of the row and of its baseline, on any machine."""
    by_machine: dict[Hashable, list[PairedSeconds]] = defaultdict(list)
    for one in seconds:
        by_machine[one.machine].append(one)
    taken = [times for group in by_machine.values() for times in ([s.own for s in group], [s.other for s in group])]
    return max(max(times) / min(times) if min(times) > 0 else float("inf") for times in taken)
