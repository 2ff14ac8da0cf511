"""Logit matching: the student's logits are the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.tensors import check_same, full_precision


def logit_matching_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Squared difference of the logits.

    Equation::

        loss = mean over b, c of (student_logits - teacher_logits)^2

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over batch and classes; 0 where the logits are equal.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; no epsilon.

    Source: Ba, Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, arXiv 1312.6184. No code by the authors. The
    paper sums over the classes and halves; the mean over classes is the form of later collections (AberHu's
    Knowledge-Distillation-Zoo, whose weight is taken here).

    Example:
        >>> import torch
        >>> logit_matching_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 1.0]]))
        tensor(2.5000)
    """
    check_same("logits", student_logits, teacher_logits)
    return F.mse_loss(full_precision(student_logits), full_precision(teacher_logits))


class LogitMatching(Strategy):
    """Logit matching: regression on the teacher's logits, before any softmax.

    Knowledge: the logits themselves, with their size, also those of classes whose probability is next to 0.

    Loss: CE(student, labels) + beta mean over b, c of (z_s - z_t)^2, z the logits, B x classes.

    Cost: one pass over the logits; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: the mean over classes in place of half their sum, and labels beside it, which the paper's
    student never sees.
    """

    name = "logit"
    family = "response"
    paper = Paper(
        title="Do Deep Nets Really Need to be Deep?",
        authors="Lei Jimmy Ba, Rich Caruana",
        year=2014,
        venue="NIPS 2014",
        id="1312.6184",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        0.1,
        "weight of the squared difference",
        ge=0.0,
        search=(0.01, 10.0),
        log=True,
        in_paper=False,
        source="AberHu's Knowledge-Distillation-Zoo, its command for CIFAR; nobody gives one for ImageNet",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``logit``."""
        return {"logit": self.beta * logit_matching_loss(student.logits, teacher.logits)}
