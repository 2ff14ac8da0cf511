"""The built-in strategies pass the kit, and so do strategies that ask much of the contract, where they are right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from check_sets import QUICK, UNTRAINED
from hard_strategies import HARD
from sound_strategy import Sound

import kdzoo_zoo
from kdzoo import Strategy, UsageError
from kdzoo.declarations import teacher_signals
from kdzoo.registry import Registry
from kdzoo.testing import CHECKS, run_checks

pytestmark = pytest.mark.exhaustive

FAMILIES = {"cnn-from-vit", "vit-from-cnn", "vit-from-vit"}

NOT_FOR = {
    "ab": {"cnn-from-vit", "vit-from-vit", "equation"},
    "ban": {"search-space"},
    "catkd": FAMILIES,
    "deit": FAMILIES,
    "diffkd": {"float64"},
    "dkd": {"two-classes"},
    "dml": {"search-space"},
    "fsp": {"equation"},
    "ft": {"equation"},
    "gdkd": {"two-classes"},
    "lift": {"cnn-from-vit", "vit-from-cnn", "equation"},
    "mgd": {"float64"},
    "norm": {"vit-from-cnn", "vit-from-vit"},
    "ofd": {"cnn-from-vit", "vit-from-vit"},
    "sdd": FAMILIES,
    "simkd": {"cnn-from-vit", "vit-from-vit", "equation"},
    "smooth": {"goal"},
    "sskd": {"batch-order", "unequal-sizes"},
    "tfkd": {"goal"},
    "uskd": {"goal", "equation"},
    "wkd_l": {"equation"},
}
"""Checks of pairs that a strategy refuses, of random terms, of a teacher that is not there, or of equations that the
kit cannot read."""


def not_claimed(kind: type[Strategy]) -> set[str]:
    """The checks of what a strategy does not claim, or leaves to the contract."""
    there = {
        "zero-when-equal": kind.zero_when_equal,
        "non-negative": kind.non_negative,
        "predict": kind.predict is not Strategy.predict or kind.deployed,
        "reduce": kind.reduce is not Strategy.reduce and teacher_signals(kind),
        "survey": kind.survey is not Strategy.survey,
        "variants": kind.variants > 1,
        "memory-rows": kind.name == "crd",
    }
    return {check for check, has in there.items() if not has}


WARNED = {
    "ce": {"examples"},
    "rkd": {"memory-growth"},  # all pairs of a batch: that is what these are
    "cc": {"memory-growth"},
    "irg": {"memory-growth"},
    "itrd": {"memory-growth", "across-samples"},
    "sskd": {"memory-growth"},
    "pkt": {"memory-growth", "batch-size"},  # a mean over pairs
    "sp": {"memory-growth", "batch-size"},
    "dist": {"across-samples"},  # it compares the samples of a batch in their classes
    "srd": {"across-samples"},  # batch normalisation of what is compared
    "ttm": {"gradient-student"},  # the teacher alone has a temperature, so its equal is not the goal
    "wttm": {"gradient-student"},
    "wkd_l": {"thousand-classes"},  # the costs between all pairs of classes
    "diffkd": {"thousand-classes", "memory-growth"},  # a denoiser of four times the classes
    "tfkd": {"labels-once"},  # the virtual teacher is made of the labels
    "norm": {"parameters", "signals"},  # its soft targets, of the teacher's logits, have weight 0 by default
    "fsp": {"parameters"},  # its adapters change nothing where channels are equal
}
"""Warnings that are true of the method."""

WITHOUT_TERMS = {
    *("float32", "batch-order", "batch-size", "gradient-student", "argument-order", "non-contiguous", "channels-last"),
    *("float64", "bf16", "fp16", "degenerate", "labels-once", "memory-growth", "parameters", "search-space"),
    *("stochastic", "across-samples", "goal", "equation"),
}
"""Checks of the terms, of which the baseline has none."""


STRATEGIES = {strategy.name: strategy for strategy in kdzoo_zoo.kdzoo_strategies()}
PARAMETERS = {"fsp": {"adapter": True}, "gdkd": {"k": 2}}
"""Without them, fsp refuses networks whose channels differ, and gdkd the four classes of the kit's images."""


@pytest.mark.parametrize("name", [name for name, kind in STRATEGIES.items() if not kind.modifies])
def test_a_built_in_strategy_passes_every_check(name: str) -> None:
    results = run_checks(Registry.load().strategy(name), PARAMETERS.get(name, {}))
    found = {finding.check.name: finding for finding in results}
    assert list(found) == [check.name for check in CHECKS]
    assert {key: one.text for key, one in found.items() if one.status == "fail"} == {}
    skipped = {key for key, one in found.items() if one.status == "skip"}
    own = WITHOUT_TERMS if name == "ce" else NOT_FOR.get(name, set())
    assert skipped == not_claimed(STRATEGIES[name]) | own
    warned = {key for key, one in found.items() if one.status == "warn"}
    # The time of a step is another one on each machine.
    assert warned - {"step-cost"} == WARNED.get(name, set())


@pytest.mark.parametrize("name", ["soft+ls", "soft+sort"])
def test_a_modifier_passes_beside_a_strategy(name: str) -> None:
    found = run_checks(Registry.load().strategy(name), only=UNTRAINED)
    assert {one.check.name: one.text for one in found if one.status == "fail"} == {}


def test_a_combination_passes_with_the_claims_of_its_parts() -> None:
    found = run_checks(Registry.load().strategy("soft+at"), only=UNTRAINED)
    assert {one.check.name: one.text for one in found if one.status in ("fail", "warn")} == {}
    assert [one.check.name for one in found if one.status == "skip"] == [
        *("memory-rows", "variants", "survey", "predict")
    ]
    (order,) = [one.text for one in found if one.check.name == "argument-order"]
    assert "soft.soft is " in order


def test_a_phase_without_teacher_and_labels_is_no_fault() -> None:
    found = run_checks(Registry.load().strategy("fitnets"), {"hint_epochs": 1}, only=QUICK)
    assert {one.check.name: one.text for one in found if one.status == "fail"} == {}
    (terms,) = [one.text for one in found if one.check.name == "terms"]
    assert terms.startswith("hint/hint ")


AFTER_A_KILL = {"training-again", "resume"}
"""The engine's tests do that to these strategies."""

FAULTS = {
    "contrast": {"float32", "bf16", "fp16"},  # its memory cannot take what autocast gives
    "three-phases": {"batch-of-one"},  # BatchNorm1d on one sample
    "everything": {"float32"},
    "teachers-head": {"no-bias"},  # it copies the teacher's bias
    "alone": {"float32"},
}
"""Where these sketches are indeed wrong."""


@pytest.mark.parametrize("strategy", HARD, ids=lambda each: each.name)
def test_a_demanding_strategy_raises_no_false_alarm(strategy: type[Strategy]) -> None:
    checks = [name for name in QUICK if name not in {"card", *AFTER_A_KILL}]
    found = {one.check.name: one for one in run_checks(strategy, only=checks)}
    failed = {name: one.text for name, one in found.items() if one.status == "fail"}
    assert set(failed) == FAULTS.get(strategy.name, set()), failed
    assert found["checkpoint"].status == "ok"


def test_only_the_named_checks_and_those_that_they_need_run() -> None:
    found = run_checks(Sound, only=["float32"])
    assert [one.check.name for one in found] == ["terms", "float32"]
    with pytest.raises(UsageError, match="unknown check 'flot32'; did you mean float32"):
        run_checks(Sound, only=["flot32"])


def test_parameters_are_those_that_are_given() -> None:
    plain, heavy = (run_checks(Sound, params, only=["terms"])[0].text for params in ({}, {"beta": 10}))
    kd = [float(text.removeprefix("kd ").partition(",")[0]) for text in (plain, heavy)]
    assert kd[1] == pytest.approx(10 * kd[0], rel=1e-3)
    with pytest.raises(UsageError, match=r"sound\.temperature must be a number above 0"):
        run_checks(Sound, {"temperature": 0.0})


def test_the_callers_random_numbers_are_left_alone() -> None:
    import random

    import numpy as np
    import torch

    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seed()
    expected = draws()
    seed()
    run_checks(Sound, only=["training-again"])
    assert draws() == expected
