"""How much each searched parameter mattered, and why there may be no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from board_studies import SPACE, done, make_study

from kdzoo.space import Range
from kdzoo.study import Study
from kdzoo.tuning.optuna_study import importance

T, A = "soft.temperature", "soft.alpha"
WIDE = {T: Range(low=1e-3, high=1e3, log=True), A: Range(low=0.0, high=1.0)}


def drawn(score: Any, count: int, space: dict[str, Range] = WIDE, scale: float = 1.0) -> Study:
    """Trial 0 and random ones, scored by a function of log10(temperature), -3 to 3, and alpha, 0 to 1."""
    draw = np.random.default_rng(0)
    trials = [{**done(score(np.log10(4.0), 0.5))}]
    for _ in range(count - 1):
        place, alpha = draw.uniform(-3, 3), draw.uniform()
        trials.append({"values": {T: 10.0**place, A: alpha * scale}, **done(score(place, alpha))})
    return make_study(*trials, space=space, trials=count)


def test_the_parameter_that_decides_is_found_and_named_first() -> None:
    found = importance(drawn(lambda place, alpha: 50 + 20 * alpha, 30))
    assert list(found.shares) == [A, T]
    assert found.shares[A] > 0.9
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.trials, found.rough, found.why_none) == (30, False, "")


def test_a_log_range_is_weighed_on_its_own_scale() -> None:
    found = importance(drawn(lambda place, alpha: 50 + 5 * place, 30))
    assert found.shares[T] > 0.9  # on a linear scale nine tenths of the range would lie in one magnitude


def test_a_tiny_range_counts_as_much_as_a_wide_one() -> None:
    small = WIDE | {A: Range(low=0.0, high=1e-9)}
    study = drawn(lambda place, alpha: 50 + 20 * alpha, 30, space=small, scale=1e-9)
    assert importance(study).shares[A] > 0.9  # trial 0, alpha 0.5, lies outside


def test_equal_effects_get_about_equal_shares() -> None:
    found = importance(drawn(lambda place, alpha: 50 + 5 * (place + 3) / 6 + 5 * alpha, 60))
    assert found.shares == {T: pytest.approx(0.5, abs=0.15), A: pytest.approx(0.5, abs=0.15)}


def test_it_is_the_same_each_time() -> None:
    study = drawn(lambda place, alpha: 50 + place + 7 * alpha, 15)
    assert importance(study) == importance(study)
    assert importance(study).rough


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        ([], "it takes two done trials, and there is none"),
        ([done(50.0)], "it takes two done trials, and there is one"),
        ([done(50.0), {"state": "failed", "reason": "x"}, {}], "it takes two done trials, and there is one"),
        ([done(50.0), done(50.0)], "all done trials score the same"),
        ([done(50.0), {**done(60.0), "values": {T: 4.0, A: 0.5}}], "all done trials try the same values"),
    ],
)
def test_without_variation_it_says_why_there_is_none(trials: list[dict[str, Any]], why: str) -> None:
    found = importance(make_study(*trials))
    assert (found.shares, found.why_none) == ({}, why)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([], "it takes two done trials within the searched ranges, and of 1 done none lies there"),
        (
            [{**done(60.0), "values": {T: 12.0, A: 0.5}}],
            "it takes two done trials within the searched ranges, and of 2 done one lies there",
        ),
    ],
)
def test_a_default_outside_of_the_ranges_is_not_counted_and_that_is_told(more: list[dict[str, Any]], why: str) -> None:
    space = {T: Range(low=10.0, high=20.0), A: Range(low=0.0, high=1.0)}
    assert importance(make_study(done(50.0), *more, space=space)).why_none == why


def test_values_too_close_to_tell_apart_are_no_variation() -> None:
    near = {**done(60.0), "values": {T: 4.0, A: 0.5 + 1e-9}}
    assert importance(make_study(done(50.0), near, space=SPACE)).why_none == "all done trials try the same values"
    assert importance(make_study(done(50.0), done(50.0 + 1e-9))).why_none == "all done trials score the same"


def test_few_and_odd_histories_have_an_answer_or_a_reason() -> None:
    draw = np.random.default_rng(1)
    for count in (2, 3, 4):
        for _ in range(4):
            grid = [
                {"values": {T: float(draw.choice([1.0, 2.0])), A: float(draw.choice([0.0, 1.0]))}, **done(float(top1))}
                for top1 in draw.integers(50, 53, count)
            ]
            found = importance(make_study({k: v for k, v in grid[0].items() if k != "values"}, *grid[1:]))
            assert bool(found.shares) != bool(found.why_none)
            assert not found.shares or sum(found.shares.values()) == pytest.approx(1)
