"""Student's t distribution, as scipy has it, without the third of a second that importing scipy's takes.

Every board has intervals, and a board of records that were read before is there in less time than that import.
"""

from __future__ import annotations

import math
from functools import cache

_SMALLEST = 1e-300
_ROUNDING = 1e-16


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
