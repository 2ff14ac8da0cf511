"""Statistics on plain floats. Each says its n and, where it has no interval, why."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdzoo.board.intervals import LEVEL, NOISE, ratio_intervals, reach, two_sided_p

FEWEST = 3
"""Seeds below which no interval is given."""

FEWEST_RESAMPLED = 5
"""Seeds below which resampling gives no interval that is worth having; docs/statistics.md has the figures."""


_ROWS = 64
"""Rows that are resampled at once."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a mean difference between paired seeds.

    Attributes:
        n: values.
        mean: None without values.
        sd: standard deviation with n-1 in the denominator; None below two values.
        low, high: 95% interval.
        p: two-sided p value of the t test that the mean is 0.
        note: why there is no interval; empty where there is one.
    """

    n: int
    mean: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    note: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and 0 lies outside of it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation (n-1), Student's t interval and the one-sample t test against 0.

    Args:
        values: one per seed, percentage points.
    """
    n = len(values)
    if n == 0:
        return Estimate(0, None, note="no seed")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(n, mean, note="n<3")
    sd = _deviation(values, mean)
    if n < FEWEST:
        return Estimate(n, mean, sd, note="n<3")
    if sd < NOISE:
        return Estimate(n, mean, 0.0, note="no spread")
    error = sd / math.sqrt(n)
    half = reach(n - 1, LEVEL) * error
    return Estimate(n, mean, sd, mean - half, mean + half, two_sided_p(n - 1, mean / error))


def _deviation(values: Sequence[float], mean: float) -> float:
    """Standard deviation, n-1 in the denominator, of at least two values."""
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Estimate:
    """The mean of values minus baseline over the same seeds, with the paired t interval and test.

    Args:
        values, baseline: one per seed, of the same seeds in the same order, percentage points.
    """
    return estimate([value - base for value, base in zip(values, baseline, strict=True)])


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust a family of p values for their number (Holm 1979, Scand. J. Statistics 6: 65-70).

    The i-th smallest of m is multiplied by m-i+1, then raised to the largest before it and cut at 1. A test without
    a p value is not one of the family.
    """
    ordered = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        adjusted[place] = largest
    return adjusted


def gap_recovered(values: Sequence[float], baseline: Sequence[float], teacher: float) -> Estimate:
    """Share of the way from the baseline to the teacher: (mean values - mean baseline) / (teacher - mean baseline).

    The interval is that of :func:`kdzoo.board.intervals.ratio_intervals`, of the differences to the baseline over the
    teacher's distances to it. There is none below five seeds, nor where the differences have no spread.

    Args:
        values, baseline: one per seed, of the same seeds in the same order, percent.
        teacher: the teacher's accuracy, percent.

    Returns:
        The share as ``mean``; no mean where the teacher is not better than the baseline.
    """
    return gaps_recovered([(values, baseline)], teacher)[0]


def gaps_recovered(pairs: Sequence[tuple[Sequence[float], Sequence[float]]], teacher: float) -> list[Estimate]:
    """The :func:`gap_recovered` of several rows, sooner than one by one.

    Args:
        pairs: values and baseline of each.
        teacher: the teacher's accuracy, percent.
    """
    found = [_share(values, baseline, teacher) for values, baseline in pairs]
    sampled: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(found):
        if one.mean is not None and not one.note:
            sampled[one.n].append(place)
    several = [some for places in sampled.values() for some in _portions(places)]
    for places in several:
        values, baseline = (np.array([pairs[place][side] for place in places], dtype=np.float64) for side in (0, 1))
        for place, interval in zip(places, ratio_intervals(values - baseline, teacher - baseline), strict=True):
            one = found[place]
            if isinstance(interval, str):
                found[place] = Estimate(one.n, one.mean, note=interval)
            else:
                found[place] = Estimate(one.n, one.mean, low=interval[0], high=interval[1])
    return found


def _portions(places: Sequence[int]) -> list[Sequence[int]]:
    """Few enough rows at a time that their resamples fit in memory."""
    return [places[start : start + _ROWS] for start in range(0, len(places), _ROWS)]


def _share(values: Sequence[float], baseline: Sequence[float], teacher: float) -> Estimate:
    """The share without its interval, and why there will be none; no note where there may be one."""
    n = len(values)
    if n == 0:
        return Estimate(0, None, note="no shared seed")
    room = [teacher - other for other in baseline]
    if math.fsum(room) / n < NOISE:
        return Estimate(n, None, note="teacher not above baseline")
    gained = [value - other for value, other in zip(values, baseline, strict=True)]
    total = math.fsum(gained)
    note = f"n<{FEWEST_RESAMPLED}" if n < FEWEST_RESAMPLED else ""
    if not note and _deviation(gained, total / n) < NOISE:
        note = "no spread"
    return Estimate(n, total / math.fsum(room), note=note)


SIGNIFICANCE = 0.05
"""Level of every test: of the paired t test and of Nemenyi's critical difference."""

FEWEST_RANKED = 3
"""Strategies below which Friedman's test is not defined."""

_DIGITS = 9
"""Scores that differ by less than rounding are a tie, as on the board."""


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all strategies do equally well, and its refinement by Iman and Davenport.

    Attributes:
        blocks: pairs that rank, N.
        strategies: strategies that are ranked, k.
        chi2: the statistic, corrected for ties, with k-1 degrees of freedom; None where there is no test.
        p: its p value.
        f: (N-1) chi2 / (N(k-1) - chi2), with k-1 and (k-1)(N-1) degrees of freedom; None where it is infinite.
        f_p: its p value.
        note: why there is no test or no F; empty where there are both.
    """

    blocks: int
    strategies: int
    chi2: float | None = None
    p: float | None = None
    f: float | None = None
    f_p: float | None = None
    note: str = ""

    @property
    def freedom(self) -> int:
        """Degrees of freedom of chi2, and the first ones of F."""
        return self.strategies - 1

    @property
    def f_freedom(self) -> int:
        """The second degrees of freedom of F."""
        return self.freedom * (self.blocks - 1)


def rank_within_blocks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place of each strategy within each block: 1 for the highest score, the mean of their places for ties.

    Args:
        scores: blocks x strategies, finite, higher is better.

    Returns:
        blocks x strategies.
    """
    return pd.DataFrame(np.round(scores, _DIGITS)).rank(axis=1, ascending=False).to_numpy(dtype=np.float64)


def friedman(scores: NDArray[np.float64]) -> Friedman:
    """Friedman's test (1937, JASA 32: 675-701) and its F (Iman and Davenport 1980, Communications in Statistics A 9:
    571-595).

    The form with the correction for ties (Conover 1999, Practical Nonparametric Statistics), from scipy.

    Both p values are approximations: Demsar asks for more than 10 blocks and more than 5 strategies.

    Args:
        scores: blocks x strategies, finite, higher is better; at least two blocks.
    """
    from scipy.special import chdtrc, fdtrc  # scipy takes as long to import as a small board takes to print
    from scipy.stats import friedmanchisquare

    blocks, strategies = scores.shape
    if strategies < FEWEST_RANKED:
        return Friedman(blocks, strategies, note=f"it needs at least {FEWEST_RANKED} ranked strategies")
    placed = rank_within_blocks(scores)
    if np.ptp(placed) == 0:
        return Friedman(blocks, strategies, note="all strategies tie on every pair")
    freedom = strategies - 1
    chi2 = _stable(friedmanchisquare(*placed.T).statistic)
    p = float(chdtrc(freedom, chi2))
    room = blocks * freedom - chi2
    if room < 10**-_DIGITS:
        return Friedman(blocks, strategies, chi2, p, note="every pair ranks the strategies alike, so F is infinite")
    f = (blocks - 1) * chi2 / room
    return Friedman(blocks, strategies, chi2, p, f, float(fdtrc(freedom, freedom * (blocks - 1), f)))


def critical_difference(strategies: int, blocks: int) -> float:
    """Mean ranks that differ by at least this much differ at the 0.05 level (Nemenyi 1963, thesis, Princeton).

    q / sqrt(2) * sqrt(k (k+1) / (6 N)), q the 95% quantile of the studentized range of k means with infinitely many
    degrees of freedom. It holds for all comparisons of the k strategies together.

    Args:
        strategies: k, at least 2.
        blocks: N, at least 1.
    """
    from scipy.stats import studentized_range  # type: ignore[attr-defined]

    q = _stable(studentized_range.ppf(1 - SIGNIFICANCE, strategies, math.inf))
    return q / math.sqrt(2) * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def _stable(value: float) -> float:
    """Without the last digits, which depend on the processor: published boards are compared to the letter."""
    return round(float(value), _DIGITS)


def inseparable(mean_ranks: Sequence[float], difference: float) -> tuple[tuple[int, ...], ...]:
    """The largest sets of strategies of which no two differ by the critical difference or more.

    Args:
        mean_ranks: one a strategy, in any order.
        difference: the critical difference.

    Returns:
        Sets of two or more places in ``mean_ranks``, the best first, in and among themselves.
    """
    order = sorted(range(len(mean_ranks)), key=lambda place: mean_ranks[place])
    found: list[tuple[int, ...]] = []
    reached = 0
    for start, first in enumerate(order):
        end = start
        while end < len(order) and mean_ranks[order[end]] - mean_ranks[first] < difference:
            end += 1
        if end > reached and end - start > 1:
            found.append(tuple(order[start:end]))
        reached = max(reached, end)
    return tuple(found)
