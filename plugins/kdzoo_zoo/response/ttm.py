"""Transformed teacher matching: the teacher's probabilities to a power, the student's as they are."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence
from kdzoo_zoo.tensors import check_same

TTM_PAPER = Paper(
    title="Knowledge Distillation Based on Transformed Teacher Matching",
    authors="Kaixiang Zheng, En-Hui Yang",
    year=2024,
    venue="ICLR 2024",
    id="2402.11148",
    code="https://github.com/zkxufo/TTM",
)


def transformed_teacher_loss(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> Tensor:
    """Divergence of the student's probabilities from the teacher's, which are raised to a power.

    Equation, with p_x = softmax(x_logits)::

        q = p_t^gamma / sum_c p_t^gamma = softmax(gamma teacher_logits)
        loss = mean_b KL(q || p_s)

    The teacher is at the temperature 1 / gamma, the student at 1, and there is no square of a temperature.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        gamma: above 0; below 1 the teacher is softer.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; log-softmax,
    no epsilon.

    Source: Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024, arXiv 2402.11148.
    Authors' code: https://github.com/zkxufo/TTM.

    Example:
        >>> import torch
        >>> transformed_teacher_loss(torch.zeros(1, 2), torch.tensor([[2.1972, 0.0]]), gamma=0.5)  # q = (3/4, 1/4)
        tensor(0.1308)
    """
    check_same("logits", student_logits, teacher_logits)
    return divergence(student_logits, teacher_logits, 1.0, 1 / gamma).distance.mean()


class TransformedTeacher(Strategy):
    """Transformed teacher matching: soft targets in which only the teacher has a temperature.

    Knowledge: the class probabilities, softened by a power; the student has to give them without a temperature, which
    holds it back from being too sure of itself.

    Loss: CE(student, labels) + beta KL(q || p_s), q = p_t^gamma, normalised, logits B x classes, KL summed over
    classes, mean over the batch.

    Cost: one softmax; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing in the loss. Its gamma and beta change from pair to pair; those of the authors'
    example are the default.
    """

    name = "ttm"
    family = "response"
    paper = TTM_PAPER
    signals = ("logits",)
    per_sample = True
    non_negative = True

    gamma: float = param(
        0.1,
        "exponent of the teacher's probabilities: lower is softer",
        gt=0.0,
        le=1.0,
        search=(0.05, 1.0),
        log=True,
        source="the authors' README, vgg13 to vgg8 on CIFAR-100; no value for ImageNet in the code",
    )
    beta: float = param(
        45.0,
        "weight of the term",
        ge=0.0,
        search=(0.5, 100.0),
        log=True,
        source="the authors' README, vgg13 to vgg8 on CIFAR-100; no value for ImageNet in the code",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``ttm``."""
        return {"ttm": self.beta * transformed_teacher_loss(student.logits, teacher.logits, self.gamma)}
