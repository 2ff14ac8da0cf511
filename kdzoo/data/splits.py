"""Stratified choices: the tune split, subsets of train, and test splits for sets that come without one.

They depend on the labels' order alone and are part of the protocol: a change of this file raises
:data:`kdzoo.cell.PROTOCOL`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdzoo.data.hashing import seed_from, shuffle_keys
from kdzoo.errors import UsageError

TUNE_SHARE = 0.1
TUNE_MOST = 10_000
"""More would cost training data for little: on 10,000 samples an accuracy of 75% has a standard error of 0.4 points."""


def stratified(
    labels: NDArray[np.int64], count: int, *, salt: str, classes: tuple[str, ...], least: int = 1, leave: int = 0
) -> NDArray[np.int64]:
    """Choose ``count`` places so that each class keeps its share, to the nearest sample.

    Within a class the samples with the lowest hash of (salt, place) are chosen, so that a larger choice with the
    same salt mostly contains the smaller one.

    Args:
        labels: N class numbers.
        count: how many to choose.
        salt: what the choice is for; different salts choose independently.
        classes: the classes' names, for the error messages.
        least: chosen at least, of each class.
        leave: left at least, of each class.

    Returns:
        The chosen places in ascending order.

    Raises:
        UsageError: a class is too small, or ``count`` does not go round.
    """
    sizes = class_sizes(labels, classes, least + leave)
    lowest, highest = least * len(classes), int((sizes - leave).sum())
    if not lowest <= count <= highest:
        raise UsageError(f"cannot take {count} of {len(labels)} images: take at least {lowest} and at most {highest}")
    quotas = _quotas(sizes, count, least, leave)
    # Sorted by class, then by rank: each class is one run, and its first quota samples are chosen.
    order = np.lexsort((shuffle_keys(len(labels), seed_from("stratified", salt)), labels))
    starts = np.cumsum(sizes) - sizes
    place_in_class = np.arange(len(labels)) - np.repeat(starts, sizes)
    return np.sort(order[place_in_class < np.repeat(quotas, sizes)]).astype(np.int64)


def class_sizes(labels: NDArray[np.int64], classes: tuple[str, ...], least: int) -> NDArray[np.int64]:
    """How many samples each class has.

    Raises:
        UsageError: a class has fewer than ``least``.
    """
    sizes = np.bincount(labels, minlength=len(classes)).astype(np.int64)
    small = np.flatnonzero(sizes < least)
    if len(small):
        raise UsageError(
            f"class {classes[small[0]]!r} has {sizes[small[0]]} training image(s) and needs at least {least}"
        )
    return sizes


def cut_tune(labels: NDArray[np.int64], classes: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut train into fit and tune, the same for every cell: tune takes 10%, at most 10,000, at least 1 per class.

    Returns:
        The places of fit and of tune, each ascending.

    Raises:
        UsageError: a class has fewer than 2 samples.
    """
    count = max(min(round(len(labels) * TUNE_SHARE), TUNE_MOST), len(classes))
    tune = stratified(labels, count, salt="tune", classes=classes, least=1, leave=1)
    return rest(len(labels), tune), tune


def rest(count: int, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of 0..count-1 that were not chosen, ascending."""
    kept = np.ones(count, dtype=bool)
    kept[chosen] = False
    return np.flatnonzero(kept).astype(np.int64)


def _quotas(sizes: NDArray[np.int64], count: int, least: int, leave: int) -> NDArray[np.int64]:
    # In whole numbers: what a class is owed, times the total, is sizes * count; ties go to the first class.
    total = int(sizes.sum())
    quotas = np.clip(sizes * count // total, least, sizes - leave)
    while (missing := count - int(quotas.sum())) != 0:
        owed = sizes * count - quotas * total
        if missing > 0:
            quotas[np.argmax(np.where(quotas < sizes - leave, owed, np.iinfo(np.int64).min))] += 1
        else:
            quotas[np.argmin(np.where(quotas > least, owed, np.iinfo(np.int64).max))] -= 1
    return quotas
