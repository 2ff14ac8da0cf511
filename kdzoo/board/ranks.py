"""Strategies ranked over several pairs: mean ranks, Friedman's test, Nemenyi's critical difference. Arrays only.

The procedure is that of Demsar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7: 1-30.
``scipy.stats`` has the test and the studentized range too, but takes half a second to import, as long as the rest of a
small board takes; the tests compare with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc, ndtr

SIGNIFICANCE = 0.05
"""Level of Nemenyi's critical difference."""

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


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
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

    With r_ij the place of strategy j in block i, chi2 = (k-1) sum_j (sum_i d_ij)^2 / sum_ij d_ij^2 of the deviations
    d_ij = r_ij - (k+1)/2: the form that holds with ties and without (Conover 1999, Practical Nonparametric Statistics).

    Both p values are approximations: Demsar asks for more than 10 blocks and more than 5 strategies.

    Args:
        scores: blocks x strategies, finite, higher is better; at least two blocks.
    """
    blocks, strategies = scores.shape
    if strategies < FEWEST_RANKED:
        return Friedman(blocks, strategies, note=f"it needs at least {FEWEST_RANKED} ranked strategies")
    placed = ranks(scores)
    if np.ptp(placed) == 0:
        return Friedman(blocks, strategies, note="all strategies tie on every pair")
    freedom = strategies - 1
    away = placed - (strategies + 1) / 2  # from the mean place, which ties do not change
    chi2 = float(freedom * (away.sum(axis=0) ** 2).sum() / (away**2).sum())
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
    return _range_quantile(strategies) / math.sqrt(2) * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def alike(mean_ranks: Sequence[float], difference: float) -> tuple[tuple[int, ...], ...]:
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


@cache
def _range_quantile(strategies: int) -> float:
    """The 95% quantile q of the range of k standard normal values.

    P(range < q) = k integral over z of phi(z) (Phi(z) - Phi(z - q))^(k-1), z the largest of them. The trapezoid rule is
    exact to rounding here, as the integrand and all its derivatives vanish at both ends. The last digits, which depend
    on the processor, are cut, for published boards are compared to the letter.
    """
    largest = np.linspace(-8.0, 12.0, 2001)
    weight = 0.01 * strategies * np.exp(-(largest**2) / 2) / math.sqrt(2 * math.pi)
    low, high = 0.0, 20.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        within = float((weight * (ndtr(largest) - ndtr(largest - middle)) ** (strategies - 1)).sum())
        low, high = (middle, high) if within < 1 - SIGNIFICANCE else (low, middle)
    return round((low + high) / 2, _DIGITS)
