"""Hard-label distillation: the teacher's best class as a second label."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import label_loss
from kdzoo_zoo.tensors import check_same


def reduce_best_class(teacher_logits: Tensor) -> Tensor:
    """What :func:`hard_label_loss` needs of the teacher: B x classes -> B, the class of the largest logit.

    Of equal ones the first; int16 where a class number fits in it, else int32.
    """
    small = teacher_logits.shape[1] <= torch.iinfo(torch.int16).max
    return teacher_logits.max(dim=1).indices.to(torch.int16 if small else torch.int32)  # faster than argmax


def hard_label_loss_reduced(student_logits: Tensor, best_class: Tensor) -> Tensor:
    """:func:`hard_label_loss` on what :func:`reduce_best_class` gives of the teacher."""
    return label_loss(student_logits, best_class.long()).mean()


def hard_label_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the student with the teacher's best class.

    Equation::

        y_t = argmax_c teacher_logits  (of equal ones the first)
        loss = - mean_b log softmax(student_logits)[y_t]

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. They have no gradient: argmax is constant almost everywhere.

    Returns:
        A scalar, at least 0: the mean over the batch.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; log-softmax,
    no epsilon.

    Source: Touvron, Cord, Douze, Massa, Sablayrolles, Jegou, "Training data-efficient image transformers &
    distillation through attention" (DeiT), ICML 2021, arXiv 2012.12877. Authors' code:
    https://github.com/facebookresearch/deit.

    Example:
        >>> hard_label_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 5.0]]))
        tensor(0.6931)
    """
    check_same("logits", student_logits, teacher_logits)
    return hard_label_loss_reduced(student_logits, reduce_best_class(teacher_logits))


class HardLabels(Strategy):
    """Hard-label distillation: the class that the teacher chooses is a second label, as good as the true one.

    Knowledge: the teacher's best class, one number a sample, for the view that the student sees.

    Loss: (1 - alpha) CE(student, labels) + alpha CE(student, argmax of the teacher), logits B x classes.

    Cost: one softmax; no adapters. The teacher bank keeps two bytes a sample. Serves every pair whose logits have the
    same classes.

    Differs from the paper: the student has one head, which learns both labels. DeiT's student has a distillation token
    with a head of its own for the teacher's, and predicts with both heads.
    """

    name = "hard"
    family = "response"
    paper = Paper(
        title="Training data-efficient image transformers & distillation through attention",
        authors="Hugo Touvron, Matthieu Cord, Matthijs Douze, Francisco Massa, Alexandre Sablayrolles, Herve Jegou",
        year=2021,
        venue="ICML 2021",
        id="2012.12877",
        code="https://github.com/facebookresearch/deit",
    )
    signals = ("logits",)
    per_sample = True
    non_negative = True

    alpha: float = param(
        0.5,
        "weight of the teacher's label; the true one gets 1 - alpha",
        ge=0.0,
        le=1.0,
        search=(0.1, 1.0),
        source="the paper's equation of hard-label distillation, for ImageNet; taken for small images too",
    )

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def reduce(self, teacher: Outputs) -> Outputs:
        """The best class of each sample."""
        return Outputs({"best": reduce_best_class(teacher.logits)})

    def reduction(self) -> dict[str, str]:
        """See :meth:`kdzoo.Strategy.reduction`."""
        return {"best": "logits argmax"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``hard``."""
        return {"hard": self.alpha * hard_label_loss_reduced(student.logits, teacher.values["best"])}
