from __future__ import annotations

import pytest
import torch

from kdzoo import Outputs, PairError, Setup, Signature
from kdzoo_zoo.functional import soft_target_loss
from kdzoo_zoo.scheme.dml import MutualLearning


def setup_of(student: int = 4, teacher: int = 4) -> Setup:
    return Setup(Signature((), 8, student), Signature((), 16, teacher), (), student, 10)


def test_each_learns_from_the_other_at_temperature_one():
    one, other = torch.randn(3, 4), torch.randn(3, 4)
    strategy = MutualLearning(setup_of())
    terms = strategy(Outputs({"logits": one}), Outputs({"logits": other}), None)
    torch.testing.assert_close(terms["mutual"], soft_target_loss(one, other, 1.0))
    assert strategy.ce_weight == 1.0


@pytest.mark.parametrize(
    ("second", "name"),
    [("student", "small:depth=2"), ("teacher", "large"), ("resnet14t:in_chans=1", "resnet14t:in_chans=1")],
)
def test_the_second_student_may_be_of_any_kind(second, name):
    assert MutualLearning.peer(MutualLearning.resolve({"second": second}), "large", "small:depth=2") == name


def test_refuses_other_classes():
    with pytest.raises(PairError, match=r"dml .* student has 4 classes and the teacher 5"):
        MutualLearning(setup_of(4, 5))
