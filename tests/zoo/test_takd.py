from __future__ import annotations

import pytest
import torch

from kdzoo import Outputs, PairError, Setup, Signature
from kdzoo_zoo.functional import soft_target_loss
from kdzoo_zoo.response.soft import SoftTargets
from kdzoo_zoo.scheme.dot import DistillationOrientedTrainer
from kdzoo_zoo.scheme.takd import TeacherAssistants


def setup_of(student: int = 4, teacher: int = 4) -> Setup:
    return Setup(Signature((), 8, student), Signature((), 16, teacher), (), student, 10)


def test_each_hop_is_soft_targets_with_the_network_before():
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    strategy = TeacherAssistants(setup_of(), alpha=0.7, temperature=3.0)
    terms = strategy(Outputs({"logits": student}), Outputs({"logits": teacher}), None)
    torch.testing.assert_close(terms["soft"], 0.7 * soft_target_loss(student, teacher, 3.0))
    assert strategy.ce_weight == pytest.approx(0.3)


def test_each_assistant_knows_those_before_it():
    values = TeacherAssistants.resolve({"assistants": "resnet26t, resnet14t:in_chans=1", "alpha": 0.5})
    assert TeacherAssistants.hops(values, "test_resnet") == [
        ("resnet26t", {"assistants": ""}),
        ("resnet14t:in_chans=1", {"assistants": "resnet26t"}),
    ]


@pytest.mark.parametrize("kind", [TeacherAssistants, DistillationOrientedTrainer])
@pytest.mark.parametrize("name", ["temperature", "alpha"])
def test_the_values_are_those_of_soft(kind, name):
    """For ImageNet too, where soft has T = 1 and alpha = 0.5."""
    shared = SoftTargets.hyperparameters()[name]
    assert kind.hyperparameters()[name] == shared
    assert shared.imagenet == {"temperature": 1.0, "alpha": 0.5}[name]


def test_refuses_a_chain_without_assistants_and_other_classes():
    with pytest.raises(PairError, match=r"--set takd\.assistants=resnet14t"):
        TeacherAssistants.hops(TeacherAssistants.resolve({}), "test_resnet")
    with pytest.raises(PairError, match="the student has 4 classes and the teacher 5"):
        TeacherAssistants(setup_of(4, 5))
