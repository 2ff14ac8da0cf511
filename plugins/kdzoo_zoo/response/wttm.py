"""Weighted transformed teacher matching: samples of a softer teacher count for more."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence
from kdzoo_zoo.response.ttm import TTM_PAPER
from kdzoo_zoo.tensors import check_same, full_precision


def weighted_transformed_teacher_loss(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> Tensor:
    """:func:`transformed_teacher_loss`, each sample weighted by how soft its teacher is.

    Equation, with p_x = softmax(x_logits)::

        U = sum_c p_t^gamma, a constant
        q = p_t^gamma / U
        loss = mean_b U KL(q || p_s)

    U is 1 for a teacher that is certain, and K^(1 - gamma) for one that finds all K classes alike.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached in q: pass it without gradient.
        gamma: above 0; below 1 the teacher is softer.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; log-softmax
    and log-sum-exp, no epsilon.

    Source: Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024, arXiv 2402.11148.
    Authors' code: https://github.com/zkxufo/TTM.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[2.1972, 0.0]])
        >>> weighted_transformed_teacher_loss(student, teacher, gamma=0.5)  # U = (3 + 1) / sqrt(10)
        tensor(0.1655)
    """
    check_same("logits", student_logits, teacher_logits)
    distance, _, mass = divergence(student_logits, teacher_logits, 1.0, 1 / gamma)
    with torch.no_grad():
        # Of the powers of logits the sum is known; those of probabilities are smaller by the power of their own sum.
        softness = (mass - gamma * full_precision(teacher_logits).logsumexp(dim=1)).exp()
    return (softness * distance).mean()


class WeightedTransformedTeacher(Strategy):
    """Weighted transformed teacher matching: as ``ttm``, with more weight where the teacher is less certain.

    Knowledge: the class probabilities, softened by a power, and by their spread how much a sample has to teach.

    Loss: CE(student, labels) + beta mean of U KL(q || p_s), U = sum over classes of p_t^gamma, q = p_t^gamma / U,
    logits B x classes, KL summed over classes.

    Cost: one softmax, two of the teacher; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing in the loss. Its gamma and beta change from pair to pair; the default is the pair of
    values of the authors' one example, where the loss stands beside CRD.
    """

    name = "wttm"
    family = "response"
    paper = TTM_PAPER
    signals = ("logits",)
    per_sample = True
    non_negative = True

    gamma: float = param(
        0.2,
        "exponent of the teacher's probabilities: lower is softer",
        gt=0.0,
        le=1.0,
        search=(0.05, 1.0),
        log=True,
        source="the authors' README, beside CRD, vgg13 to vgg8 on CIFAR-100; no value for ImageNet in the code",
    )
    beta: float = param(
        4.0,
        "weight of the term",
        ge=0.0,
        search=(0.1, 40.0),
        log=True,
        source="the authors' README, beside CRD, vgg13 to vgg8 on CIFAR-100; no value for ImageNet in the code",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``wttm``."""
        return {"wttm": self.beta * weighted_transformed_teacher_loss(student.logits, teacher.logits, self.gamma)}
