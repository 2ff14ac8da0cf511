from __future__ import annotations

import math

import pytest
import torch

from kdzoo import Outputs, PairError, Setup, Signature, UsageError
from kdzoo.testing import run_checks
from kdzoo_zoo.scheme.ban import BornAgain


def setup_of(student: int = 4, teacher: int = 4) -> Setup:
    return Setup(Signature((), 8, student), Signature((), 16, teacher), (), student, 10)


def term_of(strategy, student, teacher):
    return strategy(Outputs({"logits": student}), Outputs({"logits": teacher}), None)["soft"]


def test_the_term_is_the_divergence_at_temperature_one():
    student, teacher = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    expected = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(value) / sum(map(math.exp, row)) for value in row] for row in (t, s))
        expected += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
    assert term_of(BornAgain(setup_of()), student, teacher).item() == pytest.approx(expected / 3)


@pytest.mark.parametrize(("labels", "weight"), [(True, 1.0), (False, 0.0)])
def test_labels_may_be_left_out(labels, weight):
    assert BornAgain(setup_of(), labels=labels).ce_weight == weight


def test_all_generations_but_the_last_are_between():
    assert BornAgain.hops(BornAgain.resolve({}), "a") == [("a", {"generations": 1})]
    assert BornAgain.hops(BornAgain.resolve({"generations": 1}), "a") == []
    three = BornAgain.hops(BornAgain.resolve({"generations": 3, "labels": False}), "a:depth=2")
    assert three == [("a:depth=2", {"generations": 1}), ("a:depth=2", {"generations": 2})]


def test_refuses_other_classes_and_no_generation():
    with pytest.raises(PairError, match="the student has 4 classes and the teacher 5"):
        BornAgain(setup_of(4, 5))
    with pytest.raises(UsageError):
        BornAgain(setup_of(), generations=0)


def test_the_kit_knows_that_generations_are_no_matter_of_one_step():
    found = {one.check.name: one for one in run_checks(BornAgain, only=["parameters", "search-space"])}
    assert found["parameters"].status == "ok", found["parameters"].text
    assert found["search-space"].status == "skip"
