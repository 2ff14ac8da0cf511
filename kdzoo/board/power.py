"""How many seeds detect a difference, and which difference the given seeds detect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from kdzoo.board.display import Table
from kdzoo.board.intervals import LEVEL, reach
from kdzoo.board.printed import (
    NONE,
    STRATEGY,
    STUDENT,
    PrintedColumn,
    RowValues,
    difference_column,
    number,
    teacher_column,
)
from kdzoo.board.stats import FEWEST, SIGNIFICANCE
from kdzoo.board.terminal import folded, grid
from kdzoo.errors import UsageError
from kdzoo.measures import Measure

POWER = 0.8
"""Probability of detecting a real difference."""

MOST_SEEDS = 1_000_000
"""Larger numbers of seeds are all the same."""

_CERTAIN = 30.0
"""Non-centrality from which on the power of three seeds or more is 1 to double precision; scipy has NaN beyond."""


@dataclass(frozen=True)
class Needed:
    """Seeds that would show a difference, by the spread of the paired differences seen so far.

    Attributes:
        n: seeds that the spread was estimated from.
        sd: standard deviation (n-1) of the paired differences, points.
        sd_low, sd_high: its 95% chi-square interval.
        seeds: fewest that would do if ``sd`` were the true one; more than :data:`MOST_SEEDS` for None.
        seeds_low, seeds_high: the same for the ends of the interval of the sd.
        shown: smallest difference that ``n`` seeds would show if ``sd`` were the true one, points.
    """

    n: int
    sd: float
    sd_low: float
    sd_high: float
    seeds: int | None
    seeds_low: int | None
    seeds_high: int | None
    shown: float


def needed(difference: float, sd: float, n: int) -> Needed:
    """What a spread, estimated from n seeds, says of a difference.

    Args:
        difference: to be shown, points, above 0.
        sd: standard deviation of the paired differences, points, above 0.
        n: seeds that it was estimated from, at least 3.
    """
    low, high = sd_interval(sd, n)
    return Needed(
        n=n,
        sd=sd,
        sd_low=low,
        sd_high=high,
        seeds=seeds_for(difference / sd),
        seeds_low=seeds_for(difference / low),
        seeds_high=seeds_for(difference / high),
        shown=sd * effect_shown(n),
    )


def power(effect: float, n: int) -> float:
    """Probability that a two-sided paired t test at 0.05 rejects (Cohen 1988, Statistical Power Analysis, ch. 2).

    The statistic follows the non-central t distribution with n-1 degrees of freedom and effect * sqrt(n) as its
    non-centrality. Both tails count.

    Args:
        effect: the true mean difference / the true standard deviation of the differences.
        n: seeds, at least 3.
    """
    from scipy.special import nctdtr

    critical = reach(n - 1, 1 - SIGNIFICANCE)
    shift = abs(effect) * math.sqrt(n)
    if shift > _CERTAIN:
        return 1.0
    # The lower tail is taken from the mirrored distribution, because far out scipy's own is NaN.
    return float(2 - nctdtr(n - 1, shift, critical) - nctdtr(n - 1, -shift, critical))


def seeds_for(effect: float) -> int | None:
    """The fewest seeds, at least 3, with which an effect is shown with power 0.8; None above :data:`MOST_SEEDS`.

    Args:
        effect: difference / standard deviation of the paired differences, above 0.
    """
    # A test that knew the spread needs fewer: what it needs is where to start from. 1.96 + 0.84 are normal quantiles.
    at_least = (2.8 / effect) ** 2
    if at_least > MOST_SEEDS:
        return None
    n = max(FEWEST, math.floor(at_least))
    while power(effect, n) < POWER:
        n += 1
    return n if n <= MOST_SEEDS else None


@cache
def effect_shown(n: int) -> float:
    """The smallest effect that n seeds show with power 0.8.

    Args:
        n: seeds, at least 3.
    """
    from scipy.optimize import brentq

    root = brentq(lambda effect: power(effect, n) - POWER, 0.0, 10.0, xtol=1e-12)  # type: ignore[no-untyped-call]
    return float(root)


def sd_interval(sd: float, n: int) -> tuple[float, float]:
    """The 95% interval of a standard deviation: (n-1) sd^2 / sigma^2 is chi-square with n-1 degrees of freedom.

    Args:
        sd: with n-1 in the denominator.
        n: values, at least 2.
    """
    from scipy.special import chdtri

    tail = (1 - LEVEL) / 2
    low, high = (sd * math.sqrt((n - 1) / float(chdtri(n - 1, upper))) for upper in (tail, 1 - tail))
    return low, high


def sd_of_interval(low: float, high: float, n: int) -> float:
    """The standard deviation (n-1) that Student's 95% interval of a mean was made with."""
    return (high - low) / 2 / reach(n - 1, LEVEL) * math.sqrt(n)


def checked_points(points: float) -> float:
    """A difference that can be looked for.

    Raises:
        UsageError: it is not above 0, or not finite.
    """
    if not (math.isfinite(points) and points > 0):
        raise UsageError(f"--power {points:g} is no difference to detect; give points above 0, such as --power 0.5")
    return points


def to_power(printed: Sequence[Table], points: float, width: int) -> str:
    """One table for each group: the seeds that would show a difference to ce of so many points.

    Args:
        printed: the board's tables.
        points: the difference, in points where the measure that ranks is a percentage.
        width: columns that a table may take, where that is possible.
    """
    blocks = [text for table in printed if (text := _table(table, points, width))]
    if not blocks:
        return "no differences to ce yet\n"
    method = "\n".join(folded(note, width, 2) for note in _notes(points))
    return "\n\n\n".join([*blocks, method]) + "\n"


def _table(table: Table, points: float, width: int) -> str:
    """The rows that have a difference to ce; empty where none has."""
    rows = [row | {"needed": _needed(row, points), "bold": False} for row in table.rows if row["diff_ce"] is not None]
    if not rows:
        return ""
    columns = [column for column in _columns(points, table.main) if column.header not in table.same]
    return "\n".join([folded(table.group.full_title, width, 2), "", grid(columns, rows, width)])


def _needed(row: RowValues, points: float) -> Needed | None:
    """None where the spread is not known: below three shared seeds, or with none between them."""
    low, high, n = row["diff_ce_low"], row["diff_ce_high"], row["diff_ce_n"]
    return None if low is None or high is None else needed(points, sd_of_interval(low, high, n), n)


def _columns(points: float, main: Measure) -> list[PrintedColumn]:
    return [
        STRATEGY,
        teacher_column(main),
        STUDENT,
        PrintedColumn("n", "right", lambda row: str(row["diff_ce_n"])),
        difference_column("ce", main),
        PrintedColumn("sd of vs ce", "right", lambda row: number(row["needed"] and row["needed"].sd, main.digits)),
        PrintedColumn(f"seeds for {points:g}", "right", lambda row: _seeds(row["needed"])),
        PrintedColumn("95% range", "left", _range),
        PrintedColumn("n shows", "right", lambda row: number(row["needed"] and row["needed"].shown, main.digits)),
    ]


def _seeds(found: Needed | None) -> str:
    return NONE if found is None else _count(found.seeds)


def _range(row: RowValues) -> str:
    found: Needed | None = row["needed"]
    if found is None:
        return str(row["diff_ce_note"])
    return f"{_count(found.seeds_low)} to {_count(found.seeds_high)}"


def _count(seeds: int | None) -> str:
    return f"over {MOST_SEEDS:,}" if seeds is None else f"{seeds:,}"


def _notes(points: float) -> list[str]:
    return [
        f"seeds for {points:g}: seeds (at least {FEWEST}) that detect {points:g} points with power {POWER}, two-sided"
        f" paired t test at {SIGNIFICANCE}",
        "n: seeds shared with ce; sd of vs ce: standard deviation (n-1) of the n paired differences, in points",
        "95% range: the same at the ends of the sd's 95% chi-square interval, wide for few seeds;"
        f" n<{FEWEST} or no spread: no sd",
        f"n shows: smallest difference, in points, that the n seeds detect with power {POWER}",
    ]
