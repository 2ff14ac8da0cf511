"""What a race found: the strategy that it recommends, what that gains, and whether others can be told from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdzoo.board.labels import params_text
from kdzoo.board.printed import number
from kdzoo.board.stats import Estimate, paired_difference
from kdzoo.board.terminal import folded
from kdzoo.errors import counted, strategies_text
from kdzoo.find.race import Runner
from kdzoo.find.racing import Raced
from kdzoo.measures import Measure
from kdzoo.record import Record

_LABEL = 13


@dataclass(frozen=True)
class Finalist:
    """A finalist beside the student alone, on the seeds that both have. Differences are of the main measure.

    Args:
        runner: the setting.
        score: its mean on test; None where no seed is done.
        on_tune: mean difference to the student alone on tune; None likewise.
        gain: the difference to the student alone on test.
        ahead: the difference of the recommended strategy to this one on test.
    """

    runner: Runner
    score: float | None
    on_tune: float | None
    gain: Estimate
    ahead: Estimate


@dataclass(frozen=True)
class RaceFinding:
    """What a race found.

    Args:
        raced: how it went.
        main: the measure by which it chose.
        alone: mean of the student alone on test.
        finalists: the best first, by tune on the fresh seeds.
        best: the best of them by tune where that is above the student alone there, else None.
    """

    raced: Raced
    main: Measure
    alone: float
    finalists: tuple[Finalist, ...]
    best: Finalist | None

    @property
    def recommended(self) -> Runner:
        """The best by tune, where test confirms that it is above the student alone; else that."""
        gain = self.best.gain.mean if self.best else None
        if self.best and gain is not None and self.main.sign * gain > 0:
            return self.best.runner
        return self.raced.runners[0]


def read_finding(raced: Raced) -> RaceFinding:
    """Read off a race what it found.

    The choice is made on tune, by the mean over the fresh seeds; test has no part in it but to confirm that the chosen
    one is above the student alone.
    """
    (_, alone), *others = raced.finals
    main = raced.runners[0].records[0].main
    tune = {one.number: _mean(_differences(records, alone, "tune", main)) for one, records in others}
    ordered = sorted(others, key=lambda line: _place(tune[line[0].number], main, line[0]))
    first = ordered[0] if ordered else None
    mean = tune[first[0].number] if first else None
    best = first if first and mean is not None and main.sign * mean > 0 else None
    lines = tuple(
        Finalist(
            runner=one,
            score=_mean([record.test[main.name] for record in records if record.test]),
            on_tune=tune[one.number],
            gain=paired_difference(*_pairs(records, alone, "test", main)),
            ahead=paired_difference(*_pairs(best[1] if best else alone, records, "test", main)),
        )
        for one, records in ordered
    )
    own = _mean([record.test[main.name] for record in alone if record.test])
    return RaceFinding(raced, main, math.nan if own is None else own, lines, lines[0] if best else None)


def _place(difference: float | None, main: Measure, one: Runner) -> tuple[float, int]:
    return (math.inf if difference is None else -main.sign * difference, one.number)


def _pairs(
    records: Sequence[Record], others: Sequence[Record], split: str, main: Measure
) -> tuple[list[float], list[float]]:
    """The main measure of both on the seeds that both have."""
    scored = [(getattr(one, split), getattr(other, split)) for one, other in zip(records, others, strict=True)]
    both = [(one[main.name], other[main.name]) for one, other in scored if one and other]
    return [one for one, _ in both], [other for _, other in both]


def _differences(records: Sequence[Record], others: Sequence[Record], split: str, main: Measure) -> list[float]:
    return [one - other for one, other in zip(*_pairs(records, others, split, main), strict=True)]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def setting_text(one: Runner) -> str:
    """A strategy with all its parameters."""
    return " ".join(filter(None, (one.label, params_text(one.cell.strategy.params))))


def finding_text(finding: RaceFinding, *, train: str, repeat: str, width: int = 120) -> str:
    """The finding in a few lines.

    Args:
        finding: what was found.
        train: the command that trains the recommended student.
        repeat: the command that repeats the race.
        width: characters of a line, where words allow it.
    """
    raced, recommended = finding.raced, finding.recommended
    alone = recommended.alone
    facts = [("recommended", f"{setting_text(recommended)}{', the student alone' if alone else ''}")]
    facts.append(("why" if alone else "gain", _why(finding)))
    rivals = [one for one in finding.finalists if one is not finding.best]
    facts += [("runners-up" if place == 0 else "", _rival(one, finding)) for place, one in enumerate(rivals)]
    seen = raced.seen
    facts.append(
        ("selection", f"saw {strategies_text(seen.strategies)} and {counted(seen.trials, 'setting')}, on tune alone")
    )
    facts.append(
        (
            "cost",
            f"{raced.spent:.1f} of {raced.trainings:.10g} trainings, {_time(raced.seconds)} of training and "
            f"evaluation, the finals on {counted(raced.race.seeds, 'seed')} among them; without the teacher's own",
        )
    )
    cell = next((one.final(0) for one, _ in raced.finals if one is recommended), recommended.final(0))
    facts += [("train it", train), ("", f"done already, seed 0: cells/{cell.id}/student.safetensors in the runs")]
    facts.append(("repeat", repeat))
    lines = []
    for label, text in facts:
        line = f"{label:<{_LABEL}}{text}"
        # A command is one line, to be copied.
        lines.append(line if text in (train, repeat) else folded(line, width, _LABEL))
    return "\n".join(lines) + "\n"


def _why(finding: RaceFinding) -> str:
    """What the chosen strategy gains over the student alone, or that none gains anything."""
    main, best = finding.main, finding.best
    count = finding.raced.race.strategies
    none = f"none of {strategies_text(count)}" if count > 1 else "no setting of the strategy"
    if best is None:
        return f"{none} is better than the student alone, by {main.title} on tune over the fresh seeds"
    scores = f"{main.text(best.score or 0.0, ' ')} against {main.text(finding.alone, ' ')} on test"
    if finding.recommended.alone:
        return (
            f"{none} is better than the student alone: {best.runner.label}, the best on tune, is not so "
            f"on test ({scores}, {_estimate(best.gain, main)})"
        )
    if best.gain.low is None:
        sure = "; without an interval, so the gain is not certain"
    else:
        sure = "" if best.gain.excludes_zero else "; the interval holds 0, so the gain is not certain"
    return f"{_estimate(best.gain, main)} over ce: {scores}{sure}"


def _rival(one: Finalist, finding: RaceFinding) -> str:
    main = finding.main
    gain = f"{setting_text(one.runner)}: {_estimate(one.gain, main)} over ce"
    if finding.best is None or one.ahead.mean is None:
        return gain
    name = finding.best.runner.label
    if not one.ahead.excludes_zero:
        return f"{gain}; cannot be told from {name} ({_estimate(one.ahead, main)} for {name})"
    better = main.sign * one.ahead.mean > 0
    return f"{gain}; {'below' if better else 'above'} {name} on test ({_estimate(one.ahead, main)} for {name})"


def _estimate(one: Estimate, main: Measure) -> str:
    """``+1.20 points [+0.40, +2.00]``."""
    points = " points" if main.unit == "%" else ""
    ends = (
        f" [{number(one.low, main.digits, sign=True)}, {number(one.high, main.digits, sign=True)}]"
        if one.low is not None and one.high is not None
        else f" ({one.note})"
    )
    return number(one.mean, main.digits, sign=True) + points + ends


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
