"""Whether a teacher's guesses say anything of the labels."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LEVEL = 0.001
"""How often guesses that have nothing to do with the labels may pass."""

ORDERS = 9999
"""Random orders that the guesses are put into, at most."""

Classes = npt.NDArray[np.int64]


def expected_hits(guesses: Classes, labels: Classes) -> float:
    """How many labels the guesses hit on average in random order: ``sum_k guesses_k labels_k / n``.

    Args:
        guesses: N class numbers.
        labels: N class numbers.
    """
    classes = 1 + int(max(guesses.max(), labels.max()))
    guessed, there = (np.bincount(which, minlength=classes) for which in (guesses, labels))
    return int(guessed @ there) / len(labels)


def knows(guesses: Classes, labels: Classes) -> bool:
    """Whether a classifier hits more labels than its own guesses do in random order.

    This is the permutation test of a classifier's accuracy (Ojala and Garriga, "Permutation Tests for Studying
    Classifier Performance", JMLR 11, 2010). It is valid for every number of samples, of classes and every balance,
    because how often a class is guessed and how often it is there stay as they are. The p value, ``(1 + orders with as
    many hits) / (1 + orders)``, is never too small (Phipson and Smyth, "Permutation P-values should never be zero",
    2010), and must be :data:`LEVEL` at most. The orders are the same each time.

    Guesses of one class alone never pass, as no order changes their hits. All hits always pass, unless they are of one
    class alone: on a handful of samples, where no number of hits is beyond chance, nothing less does.

    Args:
        guesses: N class numbers.
        labels: N class numbers.
    """
    hits = int(np.count_nonzero(guesses == labels))
    if (guesses == guesses[0]).all():
        return False
    if hits == len(labels):
        return True
    expected = expected_hits(guesses, labels)
    beyond = hits - expected
    if beyond <= 0:
        return False
    # A bound of the p value (Chatterjee, "Stein's method for concentration inequalities", 2007, proposition 1.1). Of
    # many samples and a good classifier no order need be tried.
    if 2 * math.exp(-(beyond**2) / (4 * expected + 2 * beyond)) <= LEVEL:
        return True
    order = guesses.copy()
    generator = np.random.Generator(np.random.PCG64(0))
    allowed = round(LEVEL * (1 + ORDERS)) - 1
    for _ in range(ORDERS):
        generator.shuffle(order)
        allowed -= int(np.count_nonzero(order == labels) >= hits)
        if allowed < 0:
            return False
    return True
