"""Weighted soft labels: soft targets count where the student has more to learn than the teacher had."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import cross_entropy, labels_of
from kdzoo_zoo.tensors import check_same, full_precision

EPSILON = 1e-7
"""Beside the teacher's loss, by which the student's is divided."""


def weighted_soft_label_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float
) -> Tensor:
    """Cross-entropy with the soft targets, each sample weighted by how its student fares beside its teacher.

    Equation, with T = ``temperature``, y = ``target``, p_x = softmax(x_logits / T)::

        L_x = - log softmax(x_logits)[y]
        w = 1 - exp(- L_s / (L_t + 1e-7)), a constant
        loss = T^2 mean_b w (- sum_c p_t log p_s)

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        target: B, int64, the labels.
        temperature: above 0.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; log-softmax.
    Epsilon 1e-7 beside the teacher's loss.

    Source: Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang, "Rethinking Soft Labels for Knowledge Distillation: A
    Bias-Variance Tradeoff Perspective", ICLR 2021, arXiv 2102.00650. Authors' code:
    https://github.com/bellymonster/Weighted-Soft-Label-Distillation; it also keeps the ratio of the losses from below
    0, where it never is.

    Example:
        >>> student, teacher = torch.zeros(1, 2), torch.zeros(1, 2)
        >>> weighted_soft_label_loss(student, teacher, torch.tensor([0]), 1.0)  # (1 - 1 / e) log 2
        tensor(0.4382)
    """
    check_same("logits", student_logits, teacher_logits)
    with torch.no_grad():
        hard_student = F.cross_entropy(full_precision(student_logits), target, reduction="none")
        hard_teacher = F.cross_entropy(full_precision(teacher_logits), target, reduction="none")
        weight = -torch.expm1(-hard_student / (hard_teacher + EPSILON))
    soft = cross_entropy(student_logits, teacher_logits, temperature, temperature).distance
    return temperature**2 * (weight * soft).mean()


class WeightedSoftLabels(Strategy):
    """Weighted soft labels: soft targets, less of them in samples that the student already knows by their labels.

    Knowledge: the softened class probabilities. A sample's weight is near 0 where the student's loss on its label is
    small beside the teacher's, and near 1 where it is large.

    Loss: CE(student, labels) + alpha T^2 mean of w H(p_t, p_s), H the cross-entropy of softened probabilities, summed
    over classes, w = 1 - exp(- L_s / L_t), L the losses on the label, logits B x classes.

    Cost: two softmaxes; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing in the loss. Under mixed labels the label is the class with the largest share.
    """

    name = "wsld"
    family = "response"
    paper = Paper(
        title="Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective",
        authors="Helong Zhou, Liangchen Song, Jiajie Chen, Ye Zhou, Guoli Wang, Junsong Yuan, Qian Zhang",
        year=2021,
        venue="ICLR 2021",
        id="2102.00650",
        code="https://github.com/bellymonster/Weighted-Soft-Label-Distillation",
    )
    signals = ("logits",)
    per_sample = True
    non_negative = True

    alpha: float = param(
        2.25,
        "weight of the soft labels",
        ge=0.0,
        imagenet=2.5,
        search=(0.25, 25.0),
        log=True,
        in_paper=False,
        source="cls_KD's config for CIFAR-100; ImageNet: the authors' code",
    )
    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        imagenet=2.0,
        search=(1.0, 8.0),
        log=True,
        in_paper=False,
        source="cls_KD's config for CIFAR-100; ImageNet: the authors' code",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``wsld``."""
        loss = weighted_soft_label_loss(student.logits, teacher.logits, labels_of(batch), self.temperature)
        return {"wsld": self.alpha * loss}
