"""A step of two students: the gradients of each are those of its own loss, as the equation has it."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from kdzoo import Batch, Outputs, Setup, Signature
from kdzoo.engine.distiller import Distiller
from kdzoo_zoo.scheme.dml import MutualLearning


class Linear(torch.nn.Module):
    """A student of one layer, as the distiller runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Linear(5, 3).double()

    def forward(self, inputs, signals):
        return Outputs({"logits": self.model(inputs)})


def test_each_gets_the_gradients_of_its_own_loss_and_none_of_the_others():
    torch.manual_seed(0)
    students = Linear(), Linear()
    apart = copy.deepcopy(students)
    inputs, labels = torch.randn(7, 5).double(), torch.randint(3, (7,))
    batch = Batch(inputs, labels, labels, torch.arange(7))
    strategy = MutualLearning(Setup(Signature((), 5, 3), Signature((), 5, 3), (), 3, 7))
    terms = Distiller(students[0], strategy, peer=students[1])(batch, Outputs({}), True)
    assert set(terms) == {"ce", "mutual", "peer.ce", "peer.mutual"}
    sum(terms.values()).backward()

    logits = [student.model(inputs) for student in apart]
    for own, other in (logits, logits[::-1]):
        kl = sum(
            (p * (p / q).log()).sum()
            for p, q in zip(other.detach().softmax(1), own.softmax(1), strict=True)
        ) / len(own)  # fmt: skip
        (F.cross_entropy(own.float(), labels) + kl).backward()
    for student, expected in zip(students, apart, strict=True):
        torch.testing.assert_close(student.model.weight.grad, expected.model.weight.grad, rtol=1e-5, atol=1e-7)
