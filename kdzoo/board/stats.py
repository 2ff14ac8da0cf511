"""Statistics on plain floats. Each says its n and, where it has no interval, why."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import stdtr, stdtrit

from kdzoo.board.bootstrap import LEVEL, NOISE, ratio_intervals

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
    reach = _t_quantile(n - 1) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Estimate(n, mean, sd, mean - reach, mean + reach, p)


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

    The interval is that of :func:`kdzoo.board.bootstrap.ratio_intervals`, of the differences to the baseline over the
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


@cache
def _t_quantile(freedom: int) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2))
