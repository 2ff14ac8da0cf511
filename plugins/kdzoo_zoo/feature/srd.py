"""SRD, a simple recipe: batch-normalised embeddings, compared by the logarithm of a high power."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.tensors import check_same, full_precision

_EPS = 1e-4
"""Added to the variance in batch normalisation, as in the authors' code."""


def log_power_loss(student_embedding: Tensor, teacher_embedding: Tensor, power: float = 4.0) -> Tensor:
    """Logarithm of a power of the difference of two networks' embeddings, each normalised over the batch.

    Equation, for each network's embeddings e::

        n_bd = (e_bd - mean of e_d) / sqrt(variance of e_d + 1e-4), both over the batch, the variance biased
        loss = log sum over b, d of |n_bd of the student - n_bd of the teacher|^power

    Args:
        student_embedding: B x D, already brought to the teacher's width by an adapter.
        teacher_embedding: B x D. Not detached: pass it without gradient.
        power: at least 1; a high one looks at the largest differences.

    Returns:
        A scalar of either sign: the sum is not divided by B.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. Epsilon 1e-4
    on variances. The sum is held at the smallest normal number, where the gradient is 0: for B = 1, and where both
    networks are equal.

    Source: Miles, Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024, arXiv
    2303.11098. Authors' code: https://github.com/roymiles/Simple-Recipe-Distillation (ImageNet, ``log_bn_corr_4``).
    Their DeiT code has the correlation of :func:`~kdzoo_zoo.functional.information_correlation_loss` in its place.

    Example:
        Normalised, the embeddings are -1, 1 and 1, -1, but for the epsilon:

        >>> log_power_loss(torch.tensor([[-9.0], [9.0]]), torch.tensor([[9.0], [-9.0]]))
        tensor(3.4657)
    """
    check_same("embeddings", student_embedding, teacher_embedding)
    difference = _normalized(student_embedding) - _normalized(teacher_embedding)
    # The same for the usual power, without a map of absolute values and a power of each.
    powers = difference.square().square() if power == 4 else difference.abs().pow(power)
    total = powers.sum()
    return total.clamp(min=torch.finfo(total.dtype).tiny).log()


def _normalized(embedding: Tensor) -> Tensor:
    # The function under F.batch_norm, which refuses a batch of one.
    wide = full_precision(embedding)
    out: Tensor = torch.batch_norm(wide, None, None, None, None, True, 0.0, _EPS, False)
    return out


class SimpleRecipe(Strategy):
    """SRD: the student's embedding, through a linear projector, matches the teacher's after batch normalisation.

    Knowledge: the pooled features; normalised over the batch, so that each dimension counts alike.

    Loss: CE(student, labels) + beta log sum |n(W s + b) - n(t)|^power + soft KL(p_t || p_s) at temperature 1, s and t
    the embeddings, n batch normalisation without scale and shift, W and b trained and discarded after training.

    Cost: one linear layer of student width x teacher width. Serves every pair whose logits have the same classes; with
    soft = 0 every pair. The batch is part of the loss, so the batch size is part of the strategy's effect.

    Differs from the paper: nothing in the loss, which is that of the authors' code for ImageNet; they give no values
    for CIFAR. The logarithm divides gradients by the sum, so the weight depends little on widths and batches.
    """

    name = "srd"
    family = "feature"
    paper = Paper(
        title="Understanding the Role of the Projector in Knowledge Distillation",
        authors="Roy Miles, Krystian Mikolajczyk",
        year=2024,
        venue="AAAI 2024",
        id="2303.11098",
        code="https://github.com/roymiles/Simple-Recipe-Distillation",
    )
    signals = ("logits", "embedding")

    beta: float = param(
        2.0,
        "weight of the logarithm",
        ge=0.0,
        source="the authors' code, ResNet34 -> ResNet18 on ImageNet",
        search=(0.1, 10.0),
        log=True,
    )
    power: float = param(
        4.0,
        "exponent of the differences",
        ge=1.0,
        le=16.0,
        source="the authors' code, ResNet34 -> ResNet18 on ImageNet",
        search=(2.0, 8.0),
    )
    soft: float = param(
        1.0,
        "weight of the soft targets at temperature 1; 0 leaves them out",
        ge=0.0,
        source="the authors' code, ResNet34 -> ResNet18 on ImageNet",
        search=(0.1, 4.0),
        log=True,
    )

    def build(self, setup: Setup) -> None:
        """Make the projector."""
        if self.soft:
            check_classes(self.name, setup, "set srd.soft=0")
        self.project = nn.Linear(setup.student.embedding, setup.teacher.embedding)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``power`` and ``soft``."""
        projected = self.project(student.embedding.to(self.project.weight.dtype))
        terms = {"power": self.beta * log_power_loss(projected, teacher.embedding, self.power)}
        if self.soft:
            terms["soft"] = self.soft * soft_target_loss(student.logits, teacher.logits, 1.0)
        return terms
