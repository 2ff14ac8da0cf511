"""Images that occur more than once in a dataset, within a split and across splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

Keys = NDArray[np.uint64]


class Shared(BaseModel, frozen=True):
    """Images of one split that are also in an earlier one.

    Args:
        split: whose images are counted.
        other: where they are too.
        images: how many.
        other_class: how many of them never have the same class there.
    """

    split: str
    other: str
    images: int
    other_class: int


class Duplicates(BaseModel, frozen=True):
    """Images with equal pixels.

    Args:
        shared: across splits, those pairs that have any.
        again: by split, images that repeat an earlier one of it.
        conflicting: images whose pixels occur with more than one class, all splits together.
    """

    shared: tuple[Shared, ...] = ()
    again: dict[str, int] = {}
    conflicting: int = 0


def key_of(pixels: bytes, *shape: int) -> int:
    """64 bits that stand for an image: a hash of its pixels and its shape.

    Two different images among n have the same with a probability of n squared / 2^65: one in 10 million for n = 1.9
    million.
    """
    made = hashlib.sha256(repr(shape).encode())
    made.update(pixels)
    return int.from_bytes(made.digest()[:8], "little")


def find_duplicates(keys: Mapping[str, Keys], labels: Mapping[str, NDArray[np.int64]]) -> Duplicates:
    """Count the images that have equal keys.

    Args:
        keys: of each split, N values of :func:`key_of`.
        labels: of each split, N class numbers.
    """
    lengths = np.cumsum([len(each) for each in keys.values()])[:-1]
    distinct, everything = np.unique(np.concatenate(list(keys.values())), return_inverse=True)
    classes = np.concatenate(list(labels.values()))
    lowest, highest = np.full(len(distinct), classes.max(initial=0)), np.zeros(len(distinct), np.int64)
    np.minimum.at(lowest, everything, classes)
    np.maximum.at(highest, everything, classes)
    numbers = dict(zip(keys, np.split(everything, lengths), strict=True))
    # A picture and a class in one number.
    pairs = {split: numbers[split] * (classes.max(initial=0) + 1) + labels[split] for split in keys}
    shared = []
    for other, split in combinations(keys, 2):
        there = np.isin(numbers[split], numbers[other])
        alike = np.isin(pairs[split], pairs[other])
        if there.any():
            shared.append(
                Shared(split=split, other=other, images=int(there.sum()), other_class=int((there & ~alike).sum()))
            )
    again = {split: len(each) - len(np.unique(each)) for split, each in numbers.items()}
    return Duplicates(
        shared=tuple(shared),
        again={split: count for split, count in again.items() if count},
        conflicting=int((lowest != highest)[everything].sum()),
    )
