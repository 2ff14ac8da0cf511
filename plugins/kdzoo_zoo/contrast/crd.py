"""Contrastive representation distillation: each sample's embeddings agree, and differ from those of other classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.contrast.negatives import draw_negatives
from kdzoo_zoo.contrast.sampled import sampled_sum
from kdzoo_zoo.tensors import check_same, full_precision

EPS = 1e-7
"""Added in the denominators, as in the authors' code."""


def contrastive_normalizer(embedding: Tensor, memory: Tensor, index: Tensor, temperature: float = 0.07) -> Tensor:
    """The constant by which the scores of one side of :func:`contrastive_memory_loss` are divided.

    Equation, with T = ``temperature``::

        Z = N mean over b, k of exp(memory[index_bk] . embedding_b / T)

    It estimates the sum over the whole memory. It is computed once, on the first batch, and then stays.

    Args:
        embedding: B x D, of length 1.
        memory: N x D, of the other network; a constant.
        index: B x (K + 1), int64, the rows that are drawn for each sample, its own first.
        temperature: above 0.

    Returns:
        A scalar above 0.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too.

    Source: as :func:`contrastive_memory_loss`; in the authors' code, not in the paper.

    Example:
        >>> memory = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> contrastive_normalizer(torch.tensor([[1.0, 0.0]]), memory, torch.tensor([[0, 1]]), temperature=1.0)
        tensor(5.5774)
    """

    def exponentials(scores: Tensor) -> tuple[Tensor, Tensor]:
        each = scores.div_(temperature).exp_()
        return each.sum(), each / temperature

    total = sampled_sum(full_precision(embedding), memory, index, exponentials)
    return total * (len(memory) / index.numel())


def contrastive_memory_loss(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    index: Tensor,
    temperature: float,
    student_normalizer: Tensor | float,
    teacher_normalizer: Tensor | float,
) -> Tensor:
    """Noise contrastive estimation: tell a sample's own embedding of the other network from those of other samples.

    Equation, with T = ``temperature``, K negatives and N rows of a memory, m = K / N::

        P_bk = exp(teacher_memory[index_bk] . student_embedding_b / T) / student_normalizer
        loss of the student = - mean over b of [log(P_b0 / (P_b0 + m + 1e-7))
                                                + sum over k = 1 .. K of log(m / (P_bk + m + 1e-7))]
        loss = loss of the student + the same with student and teacher exchanged

    Args:
        student_embedding: B x D, of length 1.
        teacher_embedding: B x D, of length 1. Not detached: its projection is trained as well.
        student_memory: N x D, the student's embeddings of all samples as they were last seen; a constant.
        teacher_memory: N x D, likewise.
        index: B x (K + 1), int64: the sample itself, then K others.
        temperature: above 0.
        student_normalizer: of :func:`contrastive_normalizer` for the student's embedding and the teacher's memory; a
            constant.
        teacher_normalizer: likewise with networks exchanged.

    Returns:
        A scalar, the sum of both sides, each a sum over the K + 1 scores and a mean over the batch.

    Raises:
        ValueError: the embeddings or the memories differ in shape, or there is no negative.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. With u the
    logarithm of P / (m + 1e-7), the logarithms are those of a sigmoid of u, so that no score overflows. There is no
    second derivative.

    Memory: B x (K + 1) scores, and the rows of a few samples at a time (see
    :func:`~kdzoo_zoo.contrast.sampled.sampled_sum`).

    Source: Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv 1910.10699. Authors'
    code: https://github.com/HobbitLong/RepDistiller, whose values these are.

    Example:
        One negative, all scores and constants alike: P = 1/2 and m = 1/2, so that each of the four logarithms is log 2.

        >>> one, memory = torch.tensor([[1.0, 0.0]]), torch.zeros(2, 2)
        >>> contrastive_memory_loss(one, one, memory, memory, torch.tensor([[0, 1]]), 0.07, 2.0, 2.0)
        tensor(2.7726)
    """
    check_same("embeddings", student_embedding, teacher_embedding)
    check_same("memories", student_memory, teacher_memory)
    negatives = index.shape[1] - 1
    if negatives < 1:
        raise ValueError("the contrastive loss needs a negative, and index has no second column")
    noise = negatives / len(student_memory)
    sides = (
        (student_embedding, teacher_memory, student_normalizer),
        (teacher_embedding, student_memory, teacher_normalizer),
    )
    losses = [
        _estimation(full_precision(embedding), memory, index, temperature, normalizer, noise)
        for embedding, memory, normalizer in sides
    ]
    # log(m / (P + m + eps)) is that of a sigmoid less this.
    slip = math.log1p(EPS / noise) * negatives
    return losses[0] + losses[1] + 2 * slip


def _estimation(
    embedding: Tensor, memory: Tensor, index: Tensor, temperature: float, normalizer: Tensor | float, noise: float
) -> Tensor:
    constant = torch.as_tensor(normalizer, dtype=embedding.dtype, device=embedding.device)
    shift = constant.detach().log() + math.log(noise + EPS)

    def logistic(scores: Tensor) -> tuple[Tensor, Tensor]:
        u = scores.div_(temperature).sub_(shift)
        slope = u.sigmoid()
        # - log sigmoid(-u) = max(u, 0) + log(1 + exp(-|u|)), of which the first column has the opposite u.
        total = u.clamp(min=0.0).sum() - u[:, 0].sum()
        total += u.abs_().neg_().exp_().log1p_().sum()
        slope[:, 0] -= 1
        return total, slope.div_(temperature)

    return sampled_sum(embedding, memory, index, logistic) / len(embedding)


def update_contrastive_memory(memory: Tensor, embedding: Tensor, index: Tensor, momentum: float = 0.5) -> Tensor:
    """The memory in which the rows of a batch have moved towards its embeddings.

    Equation::

        row = momentum memory[index_b] + (1 - momentum) embedding_b
        memory[index_b] = row / ||row||_2

    Args:
        memory: N x D.
        embedding: B x D.
        index: B, int64, no row twice.
        momentum: from 0 to 1; how much of the old row stays.

    Returns:
        N x D, a new tensor, without gradient; other rows are as they were.

    Precision: the rows are computed in at least float32 and stored in the memory's own precision. No epsilon.

    Source: as :func:`contrastive_memory_loss`.

    Example:
        >>> memory = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> update_contrastive_memory(memory, torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
        tensor([[0.7071, 0.7071],
                [0.0000, 1.0000]])
    """
    updated = memory.detach().clone()
    write_rows(updated, embedding, index, momentum)
    return updated


@torch.no_grad()
def write_rows(memory: Tensor, embedding: Tensor, index: Tensor, momentum: float) -> None:
    """:func:`update_contrastive_memory` in place: only the rows of the batch are read and written."""
    check_same("rows", memory[index], embedding, of=("memory", "embedding"))
    rows = full_precision(memory[index]) * momentum + full_precision(embedding) * (1 - momentum)
    memory[index] = (rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)).to(memory.dtype)


class ContrastiveRepresentation(Strategy):
    """Contrastive representation distillation: a sample's two embeddings agree, and differ from those of other classes.

    Knowledge: which of many embeddings of the other network belongs to the same sample, by noise contrastive
    estimation, both ways.

    Loss: CE(student, labels) + beta (L of the student + L of the teacher), L = - mean over samples of [log(P_0 / (P_0 +
    m)) + sum over K negatives of log(m / (P_k + m))], P = exp(v . e / T) / Z and m = K / N. e is a linear projection of
    the pooled features, B x D, to width 128 and length 1; both networks' projections are trained. v are rows of a
    memory with the other network's embedding of each of the N training samples, as it was last seen; Z is found on the
    first batch.

    Cost: two memories of N x 128 numbers (1.3 GB for ImageNet's 1,281,167 samples), which are in each checkpoint, and
    the scores of K negatives for each sample: more than a small student's own step. Neither time nor memory of a step
    depends on N otherwise. Serves every pair.

    Differs from the paper: negatives are drawn with replacement, from all samples whose class is not known to be the
    same. The authors' code draws without, from a list for each class, while K is not above the number of such samples;
    the mean of the loss over draws is the same. In the first epoch, samples that were not seen yet have no known class,
    and rows that are still random.
    """

    name = "crd"
    family = "contrastive"
    paper = Paper(
        title="Contrastive Representation Distillation",
        authors="Yonglong Tian, Dilip Krishnan, Phillip Isola",
        year=2020,
        venue="ICLR 2020",
        id="1910.10699",
        code="https://github.com/HobbitLong/RepDistiller",
    )
    signals = ("embedding",)
    non_negative = True
    stochastic = True

    student_memory: Tensor
    teacher_memory: Tensor
    labels: Tensor
    normalizers: Tensor

    beta: float = param(
        0.8, "weight of the term", ge=0.0, search=(0.1, 5.0), log=True, source="the authors' code, CIFAR-100"
    )
    temperature: float = param(
        0.07, "T, divides the cosines", gt=0.0, search=(0.03, 0.3), log=True, source="the authors' code; AberHu's 0.1"
    )
    negatives: int = param(16384, "K, other samples that each is contrasted with", ge=1, source="the authors' code")
    momentum: float = param(
        0.5, "how much of a row of the memory stays at each visit", ge=0.0, lt=1.0, source="the authors' code"
    )
    width: int = param(128, "of the projected embeddings", ge=1, source="the authors' code")

    def build(self, setup: Setup) -> None:
        """Make the projections and the memories."""
        self.student_layer = nn.Linear(setup.student.embedding, self.width)
        self.teacher_layer = nn.Linear(setup.teacher.embedding, self.width)
        bound = math.sqrt(3 / self.width)
        for network in ("student", "teacher"):
            rows = torch.empty(setup.num_samples, self.width).uniform_(-bound, bound)
            self.register_buffer(f"{network}_memory", rows)
        self.register_buffer("labels", torch.full((setup.num_samples,), -1, dtype=torch.int32))
        self.register_buffer("normalizers", torch.zeros(2))  # of student and teacher; 0 before the first batch

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``contrast``; then the batch's rows of the memories are updated."""
        ours, theirs = self._embedded(self.student_layer, student), self._embedded(self.teacher_layer, teacher)
        self.labels[batch.index] = batch.labels.to(self.labels.dtype)
        index = torch.cat([batch.index[:, None], draw_negatives(self.labels, batch.index, self.negatives)], dim=1)
        if not self.normalizers[0]:
            with torch.no_grad():
                self.normalizers[0] = contrastive_normalizer(ours, self.teacher_memory, index, self.temperature)
                self.normalizers[1] = contrastive_normalizer(theirs, self.student_memory, index, self.temperature)
        memories = self.student_memory, self.teacher_memory
        loss = contrastive_memory_loss(ours, theirs, *memories, index, self.temperature, *self.normalizers)
        write_rows(self.student_memory, ours, batch.index, self.momentum)
        write_rows(self.teacher_memory, theirs, batch.index, self.momentum)
        return {"contrast": self.beta * loss}

    @staticmethod
    def _embedded(layer: nn.Linear, network: Outputs) -> Tensor:
        """B x D to B x width, of length 1."""
        return F.normalize(full_precision(layer(network.embedding.to(layer.weight.dtype))), dim=1)
