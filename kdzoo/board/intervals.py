"""What intervals are made of: Student's t distribution, the bootstrap-t interval of a ratio of two means, Wilson's.

Student's distribution is as scipy has it, without the third of a second that importing scipy's takes. Every board has
intervals, and a board of records that were read before is there in less time than that import.
"""

from __future__ import annotations

import math
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

_NORMAL = 1.959963984540054
"""97.5% quantile of the normal distribution."""

_SMALLEST = 1e-300
_ROUNDING = 1e-16


def ratio_intervals(x: Array, y: Array) -> list[tuple[float, float] | str]:
    """For each row the 95% bootstrap-t interval of mean(x) / mean(y) (Efron 1981, Canadian Journal of Statistics 9).

    The standard error of the ratio g is, by linearisation, that of the mean of (x - g y) / mean(y). The quantiles of
    (g* - g) / se* over resamples stand in the place of Student's, no se* counting as less than a quarter of the
    sample's. They are exact, over every resample, up to six seeds; beyond, over 4,000 resamples from a fixed seed.

    A row's interval is the same to the last bit on every machine, and whatever the other rows are: a published board
    is compared with what its records give.

    Args:
        x, y: rows x seeds, of the same seeds in the same order, percentage points.

    Returns:
        Its ends; or why there is none: a resample's mean(y) is not above 0, or so many resamples have no spread that a
        quantile is infinite.
    """
    counts, weights = _resamples(x.shape[1])
    clear = (_sums(counts, y) / x.shape[1]).min(axis=1) >= NOISE
    found: list[tuple[float, float] | str] = ["teacher not clearly above baseline"] * len(x)
    if not clear.any():
        return found
    ratios, errors = _ratios(counts, x[clear], y[clear])
    ratio, error, ratios, errors = ratios[:, :1], errors[:, :1], ratios[:, 1:], errors[:, 1:]
    # A resample without spread, as one of equal seeds, lies infinitely many errors away.
    spread = errors > NOISE
    floored = np.maximum(np.where(spread, errors, 1), FLOOR * error)
    away = np.where(spread, (ratios - ratio) / floored, np.copysign(np.inf, ratios - ratio))
    quantiles = _quantiles(away, weights)
    ends = zip(*(column.ravel().tolist() for column in (ratio, error, *quantiles)), strict=True)
    for place, (middle, scale, low, high) in zip(np.flatnonzero(clear), ends, strict=True):
        known = scale >= NOISE and math.isfinite(low) and math.isfinite(high)
        found[place] = (middle - high * scale, middle - low * scale) if known else "no spread"
    return found


def wilson_low(percent: float, samples: int) -> float:
    """The lower end of Wilson's 95% interval of a percentage of samples (Wilson 1927, JASA 22: 209-212).

    Args:
        percent: of the samples, 0 to 100.
        samples: at least 1.
    """
    share, extra = percent / 100, _NORMAL**2 / samples
    half = math.sqrt(extra * (share * (1 - share) + extra / 4))
    return 100 * (share + extra / 2 - half) / (1 + extra)


def _sums(counts: Array, values: Array) -> Array:
    """Rows x resamples: the sum of each row's values in each resample."""
    # No product of matrices: that adds up in an order that depends on the processor.
    total: Array = (counts * values[:, :, None]).sum(axis=1)
    return total


def _ratios(counts: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Rows x resamples: mean(x) / mean(y) in each resample, and its standard error."""
    n = x.shape[1]
    room = _sums(counts, y) / n
    ratio = _sums(counts, x) / n / room
    # Squared one by one: sums of the squares of x and y would cancel, and leave rounding where there is no spread.
    residuals = x[:, :, None] - ratio[:, None, :] * y[:, :, None]
    return ratio, np.sqrt((counts * residuals**2).sum(axis=1) / (n - 1) / n) / room


@cache
def _resamples(n: int) -> tuple[Array, Array]:
    """How often each of n values occurs in the sample itself and in each resample (n x 1 + resamples), and the
    probabilities of the resamples."""
    if n <= 6:
        picks = combinations_with_replacement(range(n), n)
        counts = np.array([np.bincount(pick, minlength=n) for pick in picks], dtype=np.float64)
        ways = [math.factorial(n) / math.prod(math.factorial(int(count)) for count in row) for row in counts]
        return _with_sample(counts), np.array(ways) / n**n
    # The legacy generator's stream is frozen, so a later numpy gives the same interval.
    drawn = np.random.RandomState(0).randint(n, size=(4000, n))
    counts = np.stack([(drawn == place).sum(axis=1) for place in range(n)], axis=1).astype(np.float64)
    return _with_sample(counts), np.full(len(counts), 1 / len(counts))


def _with_sample(counts: Array) -> Array:
    return np.ascontiguousarray(np.vstack([np.ones(counts.shape[1]), counts]).T)


def _quantiles(values: Array, weights: Array) -> tuple[Array, Array]:
    """For each row the smallest values at or below which lie 2.5% and 97.5% of the weight."""
    order = np.argsort(values, axis=1, kind="stable")
    reached = np.cumsum(weights[order], axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    tail = (1 - LEVEL) / 2
    # The small step back keeps a sum that rounding left just below its quantile from being passed over.
    places = ((reached < level - NOISE).sum(axis=1)[:, None] for level in (tail, 1 - tail))
    low, high = (np.take_along_axis(ordered, place, axis=1) for place in places)
    return low, high


def two_sided_p(freedom: int, t: float) -> float:
    """P(abs(T) >= abs(t)) for T with so many degrees of freedom, to 12 digits, however small it is."""
    return _stable(_tails(freedom, t)) if t else 1.0


@cache
def reach(freedom: int, level: float) -> float:
    """The t within which abs(T) lies with this probability, to 12 digits: 4.30265272975 for 2 and a level of 0.95."""
    low, high = 0.0, 1.0
    while _tails(freedom, high) > 1 - level:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _tails(freedom, middle) > 1 - level else (low, middle)
    return _stable(middle)


def _stable(value: float) -> float:
    """Without the digits that depend on the system's exp and log: published boards are compared to the letter."""
    return float(f"{value:.12g}")


def _tails(freedom: int, t: float) -> float:
    """The regularised incomplete beta function I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2)."""
    half = freedom / 2
    # Both arguments of the beta function from t^2 itself: 1 - x would lose all digits where t is small.
    x, y = 1 / (1 + t * t / freedom), 1 / (1 + freedom / (t * t))
    log_front = math.lgamma(half + 0.5) - math.lgamma(half) - math.lgamma(0.5)
    front = math.exp(log_front + half * math.log(x) + 0.5 * math.log(y))
    if x < (half + 1) / (half + 2.5):
        return front * _fraction(half, 0.5, x) / half
    return 1 - front * _fraction(0.5, half, y) / 0.5


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value, m = d, 1
    while True:
        before = value
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / ((1 + step * d) or _SMALLEST)
            c = (1 + step / c) or _SMALLEST
            value *= c * d
        if abs(value - before) <= _ROUNDING * abs(value):
            return value
        m += 1
