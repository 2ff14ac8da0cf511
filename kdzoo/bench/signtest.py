"""The exact sign test: which of two ways of seeing the same samples is right more often."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc


def wins(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> int:
    """How many samples only the first of two ways gets right, by whether each way gets each sample right."""
    return int(np.count_nonzero(first & ~second))


def sign_test(won: int, lost: int) -> float:
    """The one-sided p value of so many wins, if each sample that one of two ways gets right were a throw of a coin.

    Args:
        won: samples that only the first gets right.
        lost: samples that only the second gets right.
    """
    return float(bdtrc(won - 1, won + lost, 0.5)) if won > 0 else 1.0
