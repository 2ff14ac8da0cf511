"""The test that guesses say something of the labels, for any number of samples and classes and any balance."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from math import comb

import numpy as np
import pytest

from kdzoo.bench.guess_tests import CHANCE_P, expected_hits, knows


def classes(counts: Sequence[int]) -> np.ndarray:
    """Labels with so many samples of each class."""
    return np.repeat(np.arange(len(counts)), counts)


UNEQUAL = classes((57, 3))


@pytest.mark.parametrize("counts", [(2, 2), (1, 1), (57, 3), (30, 30), (1, 59), (6,) * 10, (1,) * 1000, (49_000, 1000)])
def test_a_perfect_teacher_knows_and_one_that_names_one_class_does_not(counts: tuple[int, ...]) -> None:
    labels = classes(counts)
    assert knows(labels, labels)
    for named in (int(np.argmax(counts)), int(np.argmin(counts)), 0):
        assert not knows(np.full_like(labels, named), labels)


def test_where_only_one_class_is_there_no_guesses_tell_anything() -> None:
    assert not knows(np.zeros(60, dtype=np.int64), np.zeros(60, dtype=np.int64))
    assert not knows(classes((50, 10)), np.zeros(60, dtype=np.int64))


def test_on_a_handful_of_samples_nothing_less_than_all_hits_will_do() -> None:
    labels = classes((2, 2))
    passed = [guesses for guesses in itertools.product((0, 1), repeat=4) if knows(np.array(guesses), labels)]
    assert passed == [(0, 0, 1, 1)]


@pytest.mark.parametrize(
    ("missed", "false"), [(0, 0), (0, 1), (0, 2), (0, 5), (0, 10), (1, 0), (1, 1), (2, 0), (1, 5), (3, 0)]
)
def test_with_two_classes_it_is_fishers_exact_test(missed: int, false: int) -> None:
    """Of 57 + 3 samples: so many of the few are missed, so many of the others are taken for them."""
    guesses = UNEQUAL.copy()
    guesses[57 : 57 + missed] = 0
    guesses[:false] = 1
    named, found = int(guesses.sum()), 3 - missed
    # The hits grow with those among the few that are named, which is hypergeometric.
    p = sum(comb(3, k) * comb(57, named - k) for k in range(found, min(3, named) + 1)) / comb(60, named)
    assert not CHANCE_P / 1.5 < p < 1.5 * CHANCE_P  # where the orders that are tried would decide
    assert knows(guesses, UNEQUAL) == (p <= CHANCE_P)


def test_who_finds_the_few_is_of_use_though_always_naming_the_many_scores_higher() -> None:
    labels = classes((950, 50))
    guesses = labels.copy()
    guesses[:120] = 1  # false alarms
    guesses[950:960] = 0
    assert (guesses == labels).mean() < 0.95
    assert knows(guesses, labels)


@pytest.mark.parametrize(
    ("n", "labels", "guesses", "draws"),
    [
        (200, (0.1,) * 10, (0.1,) * 10, 2000),
        (60, (0.95, 0.05), (0.95, 0.05), 2000),
        (300, (0.95, 0.05), (0.8, 0.2), 2000),
        (1000, (0.001,) * 1000, (0.001,) * 1000, 1000),
    ],
    ids=["balanced", "95 to 5", "95 to 5, guessed 80 to 20", "1000 classes"],
)
def test_guesses_that_have_nothing_to_do_with_the_labels_rarely_pass(
    n: int, labels: tuple[float, ...], guesses: tuple[float, ...], draws: int
) -> None:
    passed = 0
    for seed in range(draws):
        draw = np.random.default_rng(seed)
        passed += knows(draw.choice(len(guesses), n, p=guesses), draw.choice(len(labels), n, p=labels))
    assert passed / draws <= CHANCE_P + 3 * (CHANCE_P / draws) ** 0.5  # three standard errors


def test_a_little_knowledge_of_many_samples_is_seen_and_chance_is_not() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(2000) % 10
    random = draw.integers(0, 10, 2000)
    assert not knows(random, labels)
    assert knows(np.where(draw.random(2000) < 0.06, labels, random), labels)
    assert not knows((labels + 1) % 10, labels)  # never right


def test_large_sets_take_no_time() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(50_000) % 1000
    began = time.process_time()
    assert knows(np.where(draw.random(50_000) < 0.01, labels, draw.integers(0, 1000, 50_000)), labels)
    assert not knows(draw.integers(0, 1000, 50_000), labels)
    assert time.process_time() - began < 5


def test_the_same_guesses_have_the_same_answer_and_stay_as_they_are() -> None:
    draw = np.random.default_rng(5)
    guesses, labels = draw.integers(0, 3, 40), draw.integers(0, 3, 40)
    before = guesses.copy()
    assert len({knows(guesses, labels) for _ in range(3)}) == 1
    assert (guesses == before).all()


def test_the_expected_hits_are_those_of_all_orders() -> None:
    guesses, labels = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 1, 2, 3])
    every = [np.count_nonzero(guesses[list(order)] == labels) for order in itertools.permutations(range(6))]
    assert expected_hits(guesses, labels) == pytest.approx(np.mean(every))
