"""The bootstrap-t interval of a ratio of two means over paired seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence level of every interval."""

NOISE = 1e-9
"""Spreads below this many percentage points are rounding, not spread: one sample in a billion moves accuracy more."""

FLOOR = 0.25
"""Share of the sample's standard error to which a smaller one of a resample is raised: without it, a few seeds that are
close by chance make an interval of any width. benchmarks/coverage.py compares such shares."""

Array = NDArray[np.float64]


def ratio_interval(x: Sequence[float], y: Sequence[float]) -> tuple[float, float] | str:
    """The 95% bootstrap-t interval of mean(x) / mean(y) (Efron 1981, Canadian Journal of Statistics 9).

    The standard error of the ratio g is, by linearisation, that of the mean of (x - g y) / mean(y). The quantiles of
    (g* - g) / se* over resamples stand in the place of Student's, no se* counting as less than a quarter of the
    sample's. They are exact, over every resample, up to six seeds; beyond, over 4,000 resamples from a fixed seed.

    Args:
        x, y: one per seed, of the same seeds in the same order, percentage points.

    Returns:
        Its ends; or why there is none: a resample's mean(y) is not above 0, or so many resamples have no spread that a
        quantile is infinite.
    """
    counts, weights = _resamples(len(x))
    above, below = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if (counts @ below).min() / len(x) < NOISE:
        return "teacher not clearly above baseline"
    ratios, errors = _ratios(counts, above, below)
    (ratio,), (error,) = _ratios(np.ones((1, len(x))), above, below)
    # A resample without spread, as one of equal seeds, lies infinitely many errors away.
    spread = errors > NOISE
    floored = np.maximum(np.where(spread, errors, 1), FLOOR * error)
    away = np.where(spread, (ratios - ratio) / floored, np.copysign(np.inf, ratios - ratio))
    low, high = _quantiles(away, weights)
    if error < NOISE or not (math.isfinite(low) and math.isfinite(high)):
        return "no spread"
    return float(ratio - high * error), float(ratio - low * error)


def _ratios(counts: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """mean(x) / mean(y) in each resample, and its standard error."""
    n = len(x)
    room = counts @ y / n
    ratio = counts @ x / n / room
    # Squared one by one: sums of the squares of x and y would cancel, and leave rounding where there is no spread.
    residuals = x - ratio[:, None] * y
    return ratio, np.sqrt((counts * residuals**2).sum(axis=1) / (n - 1) / n) / room


@cache
def _resamples(n: int) -> tuple[Array, Array]:
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


def _quantiles(values: Array, weights: Array) -> tuple[float, float]:
    """The smallest values at or below which lie 2.5% and 97.5% of the weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    tail = (1 - LEVEL) / 2
    # The small step back keeps a sum that rounding left just below its quantile from being passed over.
    low, high = np.searchsorted(reached, [tail - NOISE, 1 - tail - NOISE])
    return float(values[order[low]]), float(values[order[high]])
