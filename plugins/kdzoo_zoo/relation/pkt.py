"""Probabilistic knowledge transfer: the student's similarities, as probabilities, match the teacher's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Strategy, Terms, param
from kdzoo_zoo.gram import Cosines
from kdzoo_zoo.tensors import check_same, full_precision

EPS = 1e-7
"""Added to lengths and to probabilities, as in the authors' code."""


def probabilistic_transfer_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Divergence of the student's probabilities that one sample is near another from the teacher's.

    Equation, for each network's embeddings e::

        u_i = e_i / (||e_i|| + 1e-7),  k_ij = (u_i . u_j + 1) / 2,  p_ij = k_ij / sum_j k_ij
        loss = mean over i, j of p_ij log((p_ij + 1e-7) / (q_ij + 1e-7)),  p the teacher's, q the student's

    The diagonal is among the pairs.

    Args:
        student_embedding: B x D.
        teacher_embedding: B x D', any width. Not detached: pass it without gradient.

    Returns:
        A scalar, the mean over all B x B pairs: 0 where the cosines are equal, and for B = 1. At least 0 but for the
        epsilon, which may bring it 1e-7 below.

    Raises:
        ValueError: the batches differ.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. Both logarithms
    are of numbers of at least 1e-7. A cosine that rounding brings below -1 counts as -1. An embedding of zeros stays
    zero, so that its cosines are 0, and carries no gradient. There is no second derivative.

    Source: Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018, arXiv
    1803.10837. Authors' code: https://github.com/passalis/probabilistic_kt, whose values these are. The paper sums over
    the pairs; AberHu's zoo has an epsilon of 1e-6.

    Example:
        Two samples that are alike for the student and opposite for the teacher:

        >>> probabilistic_transfer_loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [-1.0]]))
        tensor(0.3466)
    """
    check_same("batch", student_embedding, teacher_embedding, slice(1))
    loss: Tensor = _Divergence.apply(full_precision(student_embedding), full_precision(teacher_embedding))
    return loss


class _Divergence(torch.autograd.Function):
    """The loss, and its gradient by each network, in the forward pass.

    By the probabilities it is g = - p / (q + eps) for the student, log((p + eps) / (q + eps)) + p / (p + eps) for the
    teacher; by the kernels (g - sum_j g_ij p_ij) / sum_j k_ij, with the p of the network.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        cosines = [Cosines.of(rows, added=EPS) for rows in (student, teacher)]
        kernels = [(each.cosines + 1).clamp_(min=0.0) for each in cosines]  # twice the equation's, as are their sums
        sums = [kernel.sum(dim=1, keepdim=True) for kernel in kernels]
        q, p = (kernel / total for kernel, total in zip(kernels, sums, strict=True))
        ratio = (p + EPS).log_() - (q + EPS).log_()
        loss = (p * ratio).mean()
        found: list[Tensor | None] = [None, None]
        if ctx.needs_input_grad[0]:
            found[0] = _by_rows(-p / (q + EPS), q, sums[0], cosines[0])
        if ctx.needs_input_grad[1]:
            found[1] = _by_rows(ratio + p / (p + EPS), p, sums[1], cosines[1])
        ctx.save_for_backward(*found)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass found."""
        if torch.is_grad_enabled():  # as it is with create_graph; what was found is a constant to autograd
            raise RuntimeError("the loss of pkt has no second derivative: differentiate it without create_graph")
        return tuple(None if found is None else gradient * found for found in ctx.saved_tensors)


def _by_rows(slope: Tensor, probabilities: Tensor, sums: Tensor, cosines: Cosines) -> Tensor:
    by_cosines = (slope - (slope * probabilities).sum(dim=1, keepdim=True)) / (sums * slope.numel())
    return cosines.by_rows(by_cosines)


class ProbabilisticTransfer(Strategy):
    """Probabilistic knowledge transfer: the similarities of the samples in a batch, as probabilities, match the
    teacher's.

    Knowledge: the cosines of all pairs of samples in the pooled features, scaled to probabilities of being neighbours.

    Loss: CE(student, labels) + beta mean over i, j of p_ij log(p_ij / q_ij), p of the teacher, q of the student, each
    (cosine + 1) / 2 divided by its sum over j, from embeddings B x D.

    Cost: B x B cosines; no adapters. Serves every pair. Relations are those within one batch; the mean over pairs falls
    with the batch size, and beta belongs to batches of 64.

    Differs from the paper: nothing in the values of the authors' code. The paper trains the representation by this loss
    alone; here, as in the usual comparisons, it is added to the labels'.
    """

    name = "pkt"
    family = "relation"
    paper = Paper(
        title="Learning Deep Representations with Probabilistic Knowledge Transfer",
        authors="Nikolaos Passalis, Anastasios Tefas",
        year=2018,
        venue="ECCV 2018",
        id="1803.10837",
        code="https://github.com/passalis/probabilistic_kt",
    )
    signals = ("embedding",)
    zero_when_equal = True

    beta: float = param(
        30000.0,
        "weight of the term",
        ge=0.0,
        search=(1000.0, 100000.0),
        log=True,
        in_paper=False,
        source="RepDistiller and mdistiller, CIFAR-100; AberHu's zoo has 10000",
    )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``neighbours``."""
        return {"neighbours": self.beta * probabilistic_transfer_loss(student.embedding, teacher.embedding)}
