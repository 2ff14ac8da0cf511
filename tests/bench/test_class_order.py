"""Whether a classifier's classes are in another order: found where they are, and not where it knows little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kdzoo.bench.guess_tests import Reordering, find_reordering, sign_test

Draw = np.random.Generator


def classifier(draw: Draw, n: int, classes: int, right: float, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Guesses that are right for that share of the samples and any class for the others, in another order; labels."""
    labels = draw.integers(0, classes, n)
    guesses = np.where(draw.random(n) < right, labels, draw.integers(0, classes, n))
    return order[guesses], labels


def rolled(classes: int, moved: int, draw: Draw) -> np.ndarray:
    """An order in which so many classes take each other's place in turn."""
    order = np.arange(classes)
    places = draw.choice(classes, moved, replace=False)
    order[places] = np.roll(places, 1)
    return order


@pytest.mark.parametrize(
    ("n", "classes", "right", "moved"),
    [
        (144, 10, 0.9, 10),
        (144, 10, 0.8, 3),
        (600, 10, 0.95, 2),
        (20, 4, 1.0, 4),
        (14, 2, 1.0, 2),
        (1000, 100, 0.7, 100),
        (1000, 100, 0.8, 10),
        (4000, 1000, 0.8, 1000),
        (10_000, 1000, 0.8, 20),
    ],
)
def test_another_order_is_found_and_named(n: int, classes: int, right: float, moved: int) -> None:
    draw = np.random.default_rng(3)
    order = rolled(classes, moved, draw)
    guesses, labels = classifier(draw, n, classes, right, order)
    found = find_reordering(guesses, labels, classes)
    assert found is not None
    assert found.before == pytest.approx(100 * (guesses == labels).mean())
    # What is reordered by one half of the samples is judged on the other.
    assert found.after <= 100 * (guesses == order[labels]).mean() + 1e-9
    assert found.after > found.before + 50 * right * moved / classes
    named = {(label, said) for label, said in found.moved if order[label] == said}
    assert len(named) >= 0.9 * len(found.moved)
    assert len(named) >= 0.5 * moved


def test_a_swap_is_told_in_figures() -> None:
    labels = np.repeat(np.arange(5), 20)
    guesses = np.array([0, 2, 1, 3, 4])[labels]
    assert find_reordering(guesses, labels, 5) == Reordering(((1, 2), (2, 1)), 60.0, 100.0)


@pytest.mark.parametrize(
    ("n", "classes", "right", "draws"),
    [
        (144, 10, 0.0, 400),
        (144, 10, 0.3, 400),
        (144, 10, 0.9, 400),
        (1000, 10, 0.05, 200),
        (1000, 2, 0.0, 400),
        (100, 50, 0.3, 200),
        (1000, 1000, 0.0, 6),
        (3000, 1000, 0.3, 6),
        (5000, 1000, 0.8, 4),
    ],
)
def test_no_order_is_made_of_little_knowledge_or_few_samples(n: int, classes: int, right: float, draws: int) -> None:
    for seed in range(draws):
        guesses, labels = classifier(np.random.default_rng(seed), n, classes, right, np.arange(classes))
        assert find_reordering(guesses, labels, classes) is None


def constant(draw: Draw, labels: np.ndarray) -> np.ndarray:
    return np.full_like(labels, 3)


def mostly_one(draw: Draw, labels: np.ndarray) -> np.ndarray:
    """Names one class for most, and is right of the others."""
    return np.where(draw.random(len(labels)) < 0.8, 3, labels)


def confused(draw: Draw, labels: np.ndarray) -> np.ndarray:
    """Takes the classes of each pair for each other a little more often than not."""
    return np.where(draw.random(len(labels)) < 0.55, labels ^ 1, labels)


def merged(draw: Draw, labels: np.ndarray) -> np.ndarray:
    """Says the same for the classes of each pair."""
    return labels & ~1


def shuffled(draw: Draw, labels: np.ndarray) -> np.ndarray:
    return draw.permutation(labels)


@pytest.mark.parametrize("say", [constant, mostly_one, confused, merged, shuffled])
@pytest.mark.parametrize("share", [None, (0.55,) + (0.05,) * 9], ids=["equal", "unequal"])
def test_what_is_no_order_is_not_taken_for_one(
    say: Callable[[Draw, np.ndarray], np.ndarray], share: tuple[float, ...] | None
) -> None:
    for seed in range(50):
        draw = np.random.default_rng(seed)
        labels = draw.choice(10, 1000, p=share)
        assert find_reordering(say(draw, labels), labels, 10) is None


def test_a_clean_order_of_a_dozen_samples_is_not_believed() -> None:
    """Nine of nine are not yet beyond chance, ten are."""
    for n, told in ((9, False), (10, True)):
        labels = np.arange(n) % 2
        assert (find_reordering(1 - labels, labels, 2) is not None) == told


def test_more_classes_than_can_be_assigned_in_time_are_left_alone() -> None:
    labels = np.arange(20_000) % 10_000
    assert find_reordering((labels + 1) % 10_000, labels, 10_000) is None


@pytest.mark.parametrize(("won", "lost", "p"), [(0, 0, 1), (0, 3, 1), (10, 0, 2**-10), (2, 1, 0.5), (3, 1, 5 / 16)])
def test_the_sign_test_counts_throws_of_a_coin(won: int, lost: int, p: float) -> None:
    assert sign_test(won, lost) == pytest.approx(p)
