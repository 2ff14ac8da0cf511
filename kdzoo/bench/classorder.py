"""Whether a classifier knows the classes in another order than the dataset has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from kdzoo.bench.knowledge import LEVEL, Classes, expected_hits
from kdzoo.bench.signtest import sign_test, wins

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
    least two thirds must be right in the new one, and more than chance allows (sign test, :data:`LEVEL`). What
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
    if won < 2 * lost or sign_test(won, lost) > LEVEL or _kappa(guesses, named) < LEAST_KAPPA:
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
