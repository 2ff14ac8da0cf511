"""Soft targets: the student matches the teacher's softened class probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.tensors import check_same, full_precision


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Divergence of the student's softened class probabilities from the teacher's.

    Equation, with T = ``temperature``::

        p_t = softmax(teacher_logits / T),  p_s = softmax(student_logits / T)
        loss = T^2 KL(p_t || p_s) = T^2 mean_b sum_c p_t (log p_t - log p_s)

    T^2 keeps the size of the gradient in the logits about the same at every temperature; the weight alpha is the
    caller's.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where both distributions are equal.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; both sides
    are log-softmax values, so that no probability is rounded to 0 before its logarithm (no epsilon).

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, NIPS 2014 Deep Learning
    Workshop, arXiv 1503.02531. No code by the authors. The paper writes the cross-entropy with the soft targets; the
    KL divergence differs from it by the teacher's entropy, which is constant, so the gradients are equal and the loss
    is 0 at the target.

    Example:
        >>> import torch
        >>> soft_target_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=2.0)
        tensor(0.4438)
    """
    check_same("logits", student_logits, teacher_logits)
    log_student = F.log_softmax(full_precision(student_logits) / temperature, dim=1)
    log_teacher = F.log_softmax(full_precision(teacher_logits) / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


class SoftTargets(Strategy):
    """Soft targets, the original knowledge distillation: learn the teacher's whole answer, not its top class alone.

    Knowledge: the class probabilities, softened by a temperature, which show how the teacher generalises over the
    wrong classes.

    Loss: (1 - alpha) CE(student, labels) + alpha T^2 KL(p_t || p_s), KL summed over classes, mean over the batch.

    Cost: one softmax; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing in the loss. The paper fixes no values; T = 4 and alpha = 0.9 are those in common
    use on CIFAR.
    """

    name = "soft"
    family = "response"
    paper = Paper(
        title="Distilling the Knowledge in a Neural Network",
        authors="Geoffrey Hinton, Oriol Vinyals, Jeff Dean",
        year=2015,
        venue="NIPS 2014 Deep Learning Workshop",
        id="1503.02531",
    )
    signals = ("logits",)
    zero_when_equal = True
    non_negative = True

    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        search=(1.0, 16.0),
        log=True,
        in_paper=False,
    )
    alpha: float = param(
        0.9,
        "weight of the soft targets; hard labels get 1 - alpha",
        ge=0.0,
        le=1.0,
        search=(0.1, 1.0),
        in_paper=False,
    )

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        if setup.student.num_classes != setup.teacher.num_classes:
            raise PairError(
                f"soft compares class probabilities, but the student has {setup.student.num_classes} classes and the "
                f"teacher {setup.teacher.num_classes}: use a teacher trained on the dataset's classes"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``soft``."""
        return {"soft": self.alpha * soft_target_loss(student.logits, teacher.logits, self.temperature)}
