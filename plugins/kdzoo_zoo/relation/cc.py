"""Correlation congruence: the similarities between the samples of a batch match the teacher's."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.gram import cosines
from kdzoo_zoo.tensors import check_same, full_precision

WIDTH = 128
"""Of the embeddings that are trained for the term of neighbours."""


def correlation_congruence_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Product of the differences of neighbouring samples, the form that the authors gave to RepDistiller.

    Equation::

        d_i = |student_embedding_i - teacher_embedding_i|, element by element
        loss = mean over i = 1 .. B - 1 of sum over the dimensions of d_i d_(i+1)

    It depends on the order of the samples.

    Args:
        student_embedding: B x D, B at least 2.
        teacher_embedding: B x D. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over the B - 1 pairs of neighbours of a sum over dimensions.

    Raises:
        ValueError: the shapes differ, or there is no second sample.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. No epsilon.
    There is no second derivative.

    Source: Peng, Jin, Liu, Zhou, Wu, Liu, Li, Zhang, "Correlation Congruence for Knowledge Distillation", ICCV 2019,
    arXiv 1904.01802. The authors have no code of their own; this is what RepDistiller has from them, and not the
    paper's equation, which is :func:`correlation_congruence_kernel_loss`.

    Example:
        >>> correlation_congruence_loss(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[0.0], [4.0], [0.0]]))
        tensor(4.)
    """
    check_same("embeddings", student_embedding, teacher_embedding)
    if len(student_embedding) < 2:
        raise ValueError("correlation congruence of neighbours needs two samples, and the batch has fewer")
    loss: Tensor = _NeighbourProducts.apply(full_precision(student_embedding), full_precision(teacher_embedding))
    return loss


class _NeighbourProducts(torch.autograd.Function):
    """The mean, and its gradient in the forward pass: that by d_i is d_(i-1) + d_(i+1)."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        apart = student - teacher
        size = apart.abs()
        around = torch.zeros_like(size)
        around[:-1] = size[1:]
        loss = (around * size).sum() / (len(size) - 1)
        around[1:] += size[:-1]
        ctx.save_for_backward(around.mul_(apart.sign_()).div_(len(size) - 1))
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass found."""
        if torch.is_grad_enabled():  # as it is with create_graph; what was found is a constant to autograd
            raise RuntimeError("the neighbours' loss of cc has no second derivative: do not set create_graph")
        (around,) = ctx.saved_tensors
        scaled = gradient * around
        return scaled if ctx.needs_input_grad[0] else None, -scaled if ctx.needs_input_grad[1] else None


def correlation_congruence_kernel_loss(
    student_embedding: Tensor, teacher_embedding: Tensor, gamma: float = 0.4, order: int = 2
) -> Tensor:
    """Difference of the two networks' Gaussian kernels between samples, expanded to a polynomial of their cosines.

    Equation, with c the cosines of a network's embeddings, whose squared distance is then 2 - 2 c::

        R_ij = exp(-2 gamma) sum over p = 0 .. order of (2 gamma)^p / p! c_ij^p
        loss = mean over i, j of (R_ij of the student - R_ij of the teacher)^2

    Args:
        student_embedding: B x D.
        teacher_embedding: B x D', any width. Not detached: pass it without gradient.
        gamma: of the kernel exp(-gamma distance^2), above 0.
        order: of the expansion, at least 1.

    Returns:
        A scalar, at least 0: the mean over all B x B pairs; 0 where the cosines are equal.

    Raises:
        ValueError: the batches differ, or the order is below 1.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. Lengths are at
    least 1e-12; an embedding of zeros carries no gradient.

    Source: as :func:`correlation_congruence_loss`, the paper's equations 7 and 8. AberHu's zoo has the same values;
    torchdistill does not normalise the embeddings.

    Example:
        Cosines 1 for the student and 0 for the teacher, between its two samples:

        >>> correlation_congruence_kernel_loss(torch.ones(2, 1), torch.eye(2), gamma=0.5, order=1)
        tensor(0.0677)
    """
    check_same("batch", student_embedding, teacher_embedding, slice(1))
    if order < 1:
        raise ValueError(f"the order of the expansion is {order}, and must be at least 1")
    student, teacher = (cosines(full_precision(each)) for each in (student_embedding, teacher_embedding))
    # The constant of the expansion drops out of the difference.
    factors = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(1, order + 1)]
    return (_polynomial(student, factors) - _polynomial(teacher, factors)).square().mean()


def _polynomial(x: Tensor, factors: list[float]) -> Tensor:
    """Sum of factors[p - 1] x^p over p from 1, by Horner's rule."""
    value = x * factors[-1]
    for factor in reversed(factors[:-1]):
        value = (value + factor) * x
    return value


class CorrelationCongruence(Strategy):
    """Correlation congruence: the similarities between the samples of a batch match the teacher's.

    Knowledge: a kernel of all pairs of samples in the pooled features.

    Loss: CE(student, labels) + beta mean over i, j of (R_ij of the student - R_ij of the teacher)^2 + neighbours mean
    over i of sum over dimensions of d_i d_(i+1). R is a Gaussian kernel of the embeddings, B x D, scaled to length 1,
    as a polynomial of the cosines; d_i = |s_i - t_i| of two linear embeddings of width 128, which are trained. A weight
    of 0 leaves its term out.

    Cost: B x B cosines. Serves every pair. Relations are those within one batch.

    Differs from the paper: the kernel term is the paper's equation, and the only one by default; its weight comes from
    AberHu's zoo. The term of neighbours is what the authors gave to RepDistiller, at a weight of 0.02 (set beta=0
    neighbours=0.02 for it). It depends on the order of the batch, is 0 for a single sample, and its two embeddings can
    make it small without the student, which is why it is not the default. The paper also draws batches by class, and
    adds soft targets: combine with another strategy for that.
    """

    name = "cc"
    family = "relation"
    paper = Paper(
        title="Correlation Congruence for Knowledge Distillation",
        authors="Baoyun Peng, Xiao Jin, Jiaheng Liu, Shunfeng Zhou, Yichao Wu, Yu Liu, Dongsheng Li, Zhaoning Zhang",
        year=2019,
        venue="ICCV 2019",
        id="1904.01802",
    )
    signals = ("embedding",)
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        100.0,
        "weight of the kernels; 0 leaves them out",
        ge=0.0,
        search=(1.0, 1000.0),
        log=True,
        in_paper=False,
        source="AberHu's zoo",
    )
    gamma: float = param(0.4, "of the kernel exp(-gamma distance^2)", gt=0.0, search=(0.1, 2.0), log=True)
    order: int = param(2, "of the polynomial that the kernel is expanded to", ge=1, le=10)
    neighbours: float = param(
        0.0,
        "weight of the products of neighbours; 0 leaves them out",
        ge=0.0,
        in_paper=False,
        source="RepDistiller has 0.02 of this term, and no kernels",
    )

    def build(self, setup: Setup) -> None:
        """Make the two embeddings, if they are needed."""
        if self.neighbours:
            self.student_layer = nn.Linear(setup.student.embedding, WIDTH)
            self.teacher_layer = nn.Linear(setup.teacher.embedding, WIDTH)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``kernel`` and ``neighbours``."""
        terms: Terms = {}
        if self.beta:
            loss = correlation_congruence_kernel_loss(student.embedding, teacher.embedding, self.gamma, self.order)
            terms["kernel"] = self.beta * loss
        if self.neighbours:
            pair = self._embedded(self.student_layer, student), self._embedded(self.teacher_layer, teacher)
            loss = correlation_congruence_loss(*pair) if len(pair[0]) > 1 else 0.0 * (pair[0] - pair[1]).sum()
            terms["neighbours"] = self.neighbours * loss
        return terms

    @staticmethod
    def _embedded(layer: nn.Linear, network: Outputs) -> Tensor:
        embedding: Tensor = layer(network.embedding.to(layer.weight.dtype))
        return embedding
