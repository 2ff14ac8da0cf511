"""Statistics on plain floats. Each says its n and, where it has no interval, why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
"""Confidence level of every interval."""

FEWEST = 3
"""Seeds below which no interval is given."""

_NOISE = 1e-9
"""Spreads below this many percentage points are rounding, not spread: one sample in a billion moves accuracy more."""


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
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    if n < FEWEST:
        return Estimate(n, mean, sd, note="n<3")
    if sd < _NOISE:
        return Estimate(n, mean, 0.0, note="no spread")
    error = sd / math.sqrt(n)
    reach = _t_quantile(n - 1) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Estimate(n, mean, sd, mean - reach, mean + reach, p)


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

    The interval is the percentile bootstrap (Efron 1979) over paired seeds: exact, over every resample, up to six
    seeds; 4,000 resamples from a fixed seed beyond. There is none where a resample's baseline reaches the teacher.

    Args:
        values, baseline: one per seed, of the same seeds in the same order, percent.
        teacher: the teacher's accuracy, percent.

    Returns:
        The share as ``mean``; no mean where the teacher is not better than the baseline.
    """
    n = len(values)
    if n == 0:
        return Estimate(0, None, note="no shared seed")
    base = math.fsum(baseline) / n
    if teacher - base < _NOISE:
        return Estimate(n, None, note="teacher not above baseline")
    difference = paired_difference(values, baseline)
    share = math.fsum(value - other for value, other in zip(values, baseline, strict=True)) / n / (teacher - base)
    if difference.note:
        return Estimate(n, share, note=difference.note)
    counts, weights = _resamples(n)
    resampled = (counts * np.asarray(values)).sum(axis=1) / n
    resampled_base = (counts * np.asarray(baseline)).sum(axis=1) / n
    room = teacher - resampled_base
    if room.min() < _NOISE:
        return Estimate(n, share, note="teacher not clearly above baseline")
    low, high = _quantiles((resampled - resampled_base) / room, weights)
    return Estimate(n, share, low=low, high=high)


@cache
def _t_quantile(freedom: int) -> float:
    return float(stdtrit(freedom, (1 + LEVEL) / 2))


@cache
def _resamples(n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How often each of n values occurs in each resample (resamples x n), and the resamples' probabilities."""
    if n <= 6:
        picks = combinations_with_replacement(range(n), n)
        counts = np.array([np.bincount(pick, minlength=n) for pick in picks], dtype=np.float64)
        ways = [math.factorial(n) / math.prod(math.factorial(int(count)) for count in row) for row in counts]
        return counts, np.array(ways) / n**n
    # The legacy generator's stream is frozen, so a later numpy gives the same interval.
    drawn = np.random.RandomState(0).randint(n, size=(4000, n))
    counts = np.stack([(drawn == place).sum(axis=1) for place in range(n)], axis=1).astype(np.float64)
    return counts, np.full(len(counts), 1 / len(counts))


def _quantiles(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """The smallest values at or below which lie 2.5% and 97.5% of the weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    tail = (1 - LEVEL) / 2
    # The small step back keeps a sum that rounding left just below its quantile from being passed over.
    low, high = np.searchsorted(reached, [tail - _NOISE, 1 - tail - _NOISE])
    return float(values[order[low]]), float(values[order[high]])
