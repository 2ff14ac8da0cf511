"""DIST: the student's probabilities correlate with the teacher's, over the classes and over the samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.tensors import check_same, full_precision

_SOURCE = "authors' settings for CIFAR-100 and, for ImageNet, ResNet34 -> ResNet18"


def dist_loss(student_logits: Tensor, teacher_logits: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """How far the softened probabilities of two networks are from a perfect correlation.

    Equation, with T = ``temperature`` and P_x = softmax(x_logits / T), B x K, x = s, t::

        corr(a, b) = <a - mean(a), b - mean(b)> / (||a - mean(a)|| ||b - mean(b)|| + 1e-8)
        inter = 1 - mean_b corr(row b of P_s, row b of P_t)
        intra = 1 - mean_k corr(column k of P_s, column k of P_t)
        loss = T^2 (beta inter + gamma intra)

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        beta: weight of the relation between the classes of a sample.
        gamma: weight of the relation between the samples of a class.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, 0 up to the epsilon where the networks agree. With B = 1 a column has no deviation, so its
        correlation is 0, and the second part T^2 gamma.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. Epsilon 1e-8
    beside the product of the norms: what deviates less does not count, and has no gradient where it does not deviate.

    Source: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv
    2205.10536. Authors' code: https://github.com/hunto/DIST_KD. torchdistill clamps the norms instead of adding an
    epsilon.

    Example:
        The classes of the second sample stand in the opposite order:

        >>> import torch
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> dist_loss(student, teacher, beta=1.0, gamma=0.0, temperature=1.0)
        tensor(1.)
    """
    check_same("logits", student_logits, teacher_logits)
    student = (full_precision(student_logits) / temperature).softmax(dim=1)
    teacher = (full_precision(teacher_logits) / temperature).softmax(dim=1)
    inter = 1 - _Correlation.apply(student, teacher, 1).mean()
    intra = 1 - _Correlation.apply(student, teacher, 0).mean()
    loss: Tensor = temperature**2 * (beta * inter + gamma * intra)
    return loss


class _Correlation(torch.autograd.Function):
    """Pearson's correlation along a dimension, with an epsilon beside the product of the norms.

    Autograd makes a tensor for each step of the centring and of the norms. Here the gradient is two products: both
    deviations have the mean 0 already, so it need not be centred again.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, dim: int) -> Tensor:
        means = [x.mean(dim=dim, keepdim=True) for x in (student, teacher)]
        a, b = student - means[0], teacher - means[1]
        lengths = [torch.linalg.vector_norm(x, dim=dim, keepdim=True) for x in (a, b)]
        product = lengths[0] * lengths[1] + 1e-8
        correlation = a.mul_(b).sum(dim=dim, keepdim=True) / product
        ctx.save_for_backward(student, teacher, *means, *lengths, product, correlation)
        ctx.dim = dim
        squeezed: Tensor = correlation.squeeze(dim)
        return squeezed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        student, teacher, *means, first, second, product, correlation = ctx.saved_tensors
        share = gradient.unsqueeze(ctx.dim) / product

        def of(own: Tensor, other: Tensor, middles: tuple[Tensor, Tensor], length: Tensor, beside: Tensor) -> Tensor:
            # A vector that does not deviate has no direction in which its length grows.
            shrink = torch.where(length > 0, share * correlation * beside / length, 0.0)
            found: Tensor = (other * share).addcmul_(own, shrink, value=-1)
            return found.sub_(middles[1] * share - middles[0] * shrink)

        wanted, (own, theirs) = ctx.needs_input_grad, means
        return (
            of(student, teacher, (own, theirs), first, second) if wanted[0] else None,
            of(teacher, student, (theirs, own), second, first) if wanted[1] else None,
            None,
        )


class Dist(Strategy):
    """DIST, distillation from a stronger teacher: the student keeps the teacher's relations, not its exact numbers.

    Knowledge: which classes a sample resembles more than others (inter-class), and which samples resemble a class more
    than others (intra-class), as linear correlations of the softened probabilities.

    Loss: CE(student, labels) + T^2 (beta (1 - mean correlation over the classes of a sample) + gamma (1 - mean
    correlation over the samples of a class)).

    Cost: one softmax of each network; no adapters. Serves every pair whose logits have the same classes. The second
    correlation compares the samples of a batch, so the batch size is part of its effect; a single sample has none.

    Differs from the paper: nothing. Other code (OFA's) has weight 1 for both parts.
    """

    name = "dist"
    family = "response"
    paper = Paper(
        title="Knowledge Distillation from A Stronger Teacher",
        authors="Tao Huang, Shan You, Fei Wang, Chen Qian, Chang Xu",
        year=2022,
        venue="NeurIPS 2022",
        id="2205.10536",
        code="https://github.com/hunto/DIST_KD",
    )
    signals = ("logits",)
    non_negative = True
    symmetric = True

    beta: float = param(
        2.0, "weight of the correlation over classes", ge=0.0, search=(0.5, 8.0), log=True, source=_SOURCE
    )
    gamma: float = param(
        2.0, "weight of the correlation over samples", ge=0.0, search=(0.5, 8.0), log=True, source=_SOURCE
    )
    temperature: float = param(
        4.0, "T, divides both networks' logits", gt=0.0, imagenet=1.0, search=(1.0, 8.0), log=True, source=_SOURCE
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``dist``."""
        return {"dist": dist_loss(student.logits, teacher.logits, self.beta, self.gamma, self.temperature)}
