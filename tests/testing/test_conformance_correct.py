"""What is right passes, also where a careless check would take it for a mistake."""

from __future__ import annotations

import pytest
import torch
from check_sets import UNTRAINED
from correct_strategies import Correct, KeepsLosses, LongPhases, Standardised, Tokens, all_correct

from kdzoo import PairError, Setup
from kdzoo.testing import run_checks
from kdzoo.testing.kit import make_subject

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("strategy", all_correct(), ids=lambda kind: kind.name)
def test_a_correct_strategy_passes(strategy: type[Correct]) -> None:
    found = {one.check.name: one for one in run_checks(strategy, only={*UNTRAINED, *strategy.checks})}
    assert {name: one.text for name, one in found.items() if one.status == "fail"} == {}
    assert {name: found[name].text for name in strategy.checks if found[name].status != "ok"} == {}


@pytest.mark.parametrize("temperature", [1.0, 2.5, 5.5, 6.0, 11.5, 14.0])
def test_rounding_is_no_swapped_divergence(temperature: float) -> None:
    (found,) = run_checks(Standardised, {"temperature": temperature}, only=["argument-order"])[-1:]
    assert found.status == "ok", found.text


def test_lengths_that_cannot_be_tried_are_told() -> None:
    found = {one.check.name: one for one in run_checks(LongPhases, only=["search-space"])}
    assert "whose phases need more than 40 epochs are left out" in found["search-space"].text


def test_a_transformers_strategy_is_trained_on_transformers() -> None:
    subject = make_subject(Tokens)
    assert subject.trainings.pair == ("test_vit:depth=4:patch_size=4",) * 2
    found = {one.check.name: one for one in run_checks(Tokens, only=["cnn-from-vit", "vit-from-vit"])}
    assert found["two-epochs"].text.startswith("2 epochs of test_vit:depth=4:patch_size=4, taught by test_vit:")
    assert found["cnn-from-vit"].status == "skip"
    assert found["vit-from-vit"].status == "ok"


class ServesNobody(Tokens):
    """It wants larger maps than any tiny network has."""

    name = "serves-nobody"

    def build(self, setup: Setup) -> None:
        if setup.num_samples < 100:  # the made-up networks have more, and are let pass
            raise PairError("these maps are too small: choose a larger --img-size")
        super().build(setup)


def test_a_strategy_that_refuses_every_tiny_network_is_warned() -> None:
    found = {one.check.name: one for one in run_checks(ServesNobody, only=["two-epochs", "teacher-untouched"])}
    assert found["two-epochs"].status == "warn"
    assert "it refuses every pair of the tiny networks: these maps are too small" in found["two-epochs"].text
    assert found["teacher-untouched"].status == "skip"


class KeepsAnObject(KeepsLosses):
    """Its state is of a kind that torch does not read back."""

    name = "keeps-an-object"

    def get_extra_state(self) -> object:
        return torch.Generator


def test_a_state_that_cannot_be_read_back_is_told() -> None:
    found = run_checks(KeepsAnObject, only=["checkpoint"])[-1]
    assert found.status == "fail"
    assert found.text.startswith("get_extra_state gives a torch._C.Generator that no checkpoint can be read with")
