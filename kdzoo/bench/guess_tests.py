"""Statistical tests of a classifier's guesses: is it above chance, and are its classes in another order?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import bdtrc

CHANCE_P = 0.001
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
    2010), and must be :data:`CHANCE_P` at most. The orders are the same each time.

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
    if 2 * math.exp(-(beyond**2) / (4 * expected + 2 * beyond)) <= CHANCE_P:
        return True
    order = guesses.copy()
    generator = np.random.Generator(np.random.PCG64(0))
    allowed = round(CHANCE_P * (1 + ORDERS)) - 1
    for _ in range(ORDERS):
        generator.shuffle(order)
        allowed -= int(np.count_nonzero(order == labels) >= hits)
        if allowed < 0:
            return False
    return True


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


MOST_CLASSES = 4096
"""Above this the assignment takes longer than it is worth."""

LEAST_KAPPA = 0.5
"""Cohen's kappa that a classifier has at least when its classes are put into the right order."""

LEAST_CLEAN = 0.75
"""Share of the moved classes of which at least half the samples are right then."""


@dataclass(frozen=True)
class Reordering:
    """Another order of the classes, by which a classifier is right more often.

    Args:
        moved: (class of the dataset, what the classifier says for it), the most frequent first.
        before: how often it is right as it is, percent.
        after: how often it would be right in the other order, percent.
    """

    moved: tuple[tuple[int, int], ...]
    before: float
    after: float


def find_reordering(guesses: Classes, labels: Classes, classes: int) -> Reordering | None:
    """The order in which a classifier seems to know the classes; None where it is the dataset's or cannot be told.

    The samples of each class are dealt into two halves. On each half the order is sought that hits most beyond chance
    (the optimal assignment, Kuhn 1955), where each class that moves must win more than one sample; it is judged on the
    other half, so that what fits by luck alone does not count. Of the samples that are right in one order only, at
    least two thirds must be right in the new one, and more than chance allows (sign test, :data:`CHANCE_P`). What
    the classifier says in the new order must be mostly right, by Cohen's kappa at least :data:`LEAST_KAPPA`, and so
    in most of the classes that move (:data:`LEAST_CLEAN`). A classifier that knows little is given no order, and one
    with a random last layer rarely: of two or three classes that is a good classifier in another order at times.

    Args:
        guesses: N class numbers.
        labels: N class numbers.
        classes: how many there are.
    """
    if classes > MOST_CLASSES:
        return None
    second = _second_half(labels)
    orders = [_best_order(guesses[half], labels[half], classes) for half in (~second, second)]
    # What the classifier would say of each sample's label, by the half that the sample is not in.
    named = np.where(second, orders[0][labels], orders[1][labels])
    before, after = guesses == labels, guesses == named
    won, lost = wins(after, before), wins(before, after)
    if won < 2 * lost or sign_test(won, lost) > CHANCE_P or _kappa(guesses, named) < LEAST_KAPPA:
        return None
    sure = np.flatnonzero((orders[0] == orders[1]) & (orders[0] != np.arange(classes)))
    there, right = (np.bincount(which, minlength=classes) for which in (labels, labels[after]))
    if not len(sure) or (2 * right[sure] >= there[sure]).mean() < LEAST_CLEAN:
        return None
    moved = sorted(sure.tolist(), key=lambda label: (-right[label], label))
    return Reordering(
        tuple((label, int(orders[0][label])) for label in moved), 100 * float(before.mean()), 100 * float(after.mean())
    )


def _second_half(labels: Classes) -> npt.NDArray[np.bool_]:
    """Every other sample of each class."""
    by_class = np.argsort(labels, kind="stable")
    second = np.empty(len(labels), dtype=bool)
    second[by_class] = np.arange(len(labels)) % 2 == 1
    return second


def _best_order(guesses: Classes, labels: Classes, classes: int) -> Classes:
    """For each class of the dataset the one that the classifier says for it."""
    found = np.bincount(labels * classes + guesses, minlength=classes**2).reshape(classes, classes)
    # A class that is guessed often goes with every class that is frequent; only what is beyond that tells of an order.
    beyond = found - np.outer(found.sum(axis=1), found.sum(axis=0)) / max(1, len(labels))
    beyond += np.eye(classes)
    order: Classes = linear_sum_assignment(beyond, maximize=True)[1]
    return order


def _kappa(guesses: Classes, named: Classes) -> float:
    """Agreement beyond chance, by Cohen (1960)."""
    chance = expected_hits(guesses, named) / len(named)
    return (float((guesses == named).mean()) - chance) / (1 - chance) if chance < 1 else 0.0
