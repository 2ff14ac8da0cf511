"""The stratified choices: balanced, disjoint, and pinned for good."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from kdzoo import UsageError
from kdzoo.data.hashing import mix, permutation, seed_from
from kdzoo.data.splits import TUNE_MOST, cut_tune, stratified

UNEVEN = np.repeat(np.arange(4, dtype=np.int64), [3, 10, 100, 487])
NAMES = ("a", "b", "c", "d")


def sha(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype("<i8").tobytes()).hexdigest()[:16]


def test_mix_is_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c from the state 1234567: mix(state + n * golden ratio).
    golden = 0x9E3779B97F4A7C15
    keys = [(1234567 + n * golden) % 2**64 for n in (1, 2, 3)]
    signed = np.array([key - 2**64 if key >= 2**63 else key for key in keys], dtype=np.int64)
    assert mix(signed).astype(np.uint64).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_permutation_is_pinned_and_complete() -> None:
    order = permutation(1000, seed_from("order", 7, 0))
    assert sorted(order.tolist()) == list(range(1000))
    assert order.tolist() != permutation(1000, seed_from("order", 7, 1)).tolist()
    assert permutation(8, 1).tolist() == [7, 0, 1, 5, 6, 2, 4, 3]


@pytest.mark.parametrize("count", [4, 17, 60, 300, 590])
def test_stratified_keeps_each_class_share(count: int) -> None:
    chosen = stratified(UNEVEN, count, salt="x", classes=NAMES, least=1, leave=1)
    assert len(chosen) == len(set(chosen.tolist())) == count
    assert chosen.tolist() == sorted(chosen.tolist())
    taken, sizes = np.bincount(UNEVEN[chosen], minlength=4), np.bincount(UNEVEN)
    assert (taken >= 1).all()
    assert (sizes - taken >= 1).all()
    if count >= 60:
        # Classes a and b are held up or down by their bounds; each of the others is at most two samples off.
        assert np.abs(taken - sizes * count / 600)[2:].max() <= 2


def test_stratified_rounds_to_the_nearest_sample() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int64), [50, 30, 20])
    taken = np.bincount(labels[stratified(labels, 25, salt="x", classes=("a", "b", "c"))])
    # 12.5, 7.5 and 5: the first tie takes the odd one.
    assert taken.tolist() == [13, 7, 5]


def test_a_larger_choice_contains_the_smaller_one_and_salts_differ() -> None:
    labels = np.arange(1000, dtype=np.int64) % 10
    names = tuple("0123456789")
    small, large = (set(stratified(labels, n, salt="s", classes=names).tolist()) for n in (100, 500))
    assert small < large
    assert small != set(stratified(labels, 100, salt="t", classes=names).tolist())


def test_tune_is_a_stratified_tenth_disjoint_from_fit() -> None:
    labels = np.arange(2000, dtype=np.int64) % 10
    fit, tune = cut_tune(labels, tuple("0123456789"))
    assert sorted([*fit.tolist(), *tune.tolist()]) == list(range(2000))
    assert np.bincount(labels[tune]).tolist() == [20] * 10
    assert (sha(fit), sha(tune)) == ("9efa3530885960d3", "ead2bacc004e1d60")


def test_tune_holds_every_class_of_a_small_set_and_stops_at_its_cap() -> None:
    labels = np.repeat(np.arange(30, dtype=np.int64), 2)
    fit, tune = cut_tune(labels, tuple(str(label) for label in range(30)))
    assert sorted(labels[fit].tolist()) == sorted(labels[tune].tolist()) == list(range(30))
    large = np.zeros(TUNE_MOST * 20, dtype=np.int64)
    large[::2] = 1
    assert len(cut_tune(large, ("a", "b"))[1]) == TUNE_MOST


def test_too_small_a_class_is_named() -> None:
    with pytest.raises(UsageError, match=r"class 'lynx' has 1 training image\(s\) and needs at least 2"):
        cut_tune(np.array([0, 0, 0, 1]), ("cat", "lynx"))


def test_impossible_count_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot take 601 of 600 images: take at least 4 and at most 600"):
        stratified(UNEVEN, 601, salt="x", classes=NAMES)
