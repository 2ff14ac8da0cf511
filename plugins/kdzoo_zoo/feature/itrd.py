"""ITRD: correlation and mutual information of embeddings, as information theory measures them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.tensors import check_same, full_precision


def information_correlation_loss(student_embedding: Tensor, teacher_embedding: Tensor, alpha: float) -> Tensor:
    """How far each dimension of the student's embedding is from being correlated with the teacher's.

    Equation, for each network's embeddings e::

        z_bd = (e_bd - mean of e_d) / standard deviation of e_d, both over the batch, unbiased
        c_d = mean over b of z_bd of the student x z_bd of the teacher
        loss = log2 sum over d of ((c_d - 1)^2)^alpha

    As the deviation is unbiased, c_d is at most (B - 1) / B, and the logarithm finite.

    Args:
        student_embedding: B x D, already brought to the teacher's width by an adapter.
        teacher_embedding: B x D. Not detached: pass it without gradient.
        alpha: order of the Renyi entropy; above 1/2, so that the gradient is bounded.

    Returns:
        A scalar of either sign.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. No epsilon: a
    dimension that is constant over the batch has z = 0, and no gradient; so has a batch of one.

    Source: Miles, Lopez-Rodriguez, Mikolajczyk, "Information Theoretic Representation Distillation", BMVC 2022, arXiv
    2112.00459. Authors' code: https://github.com/roymiles/ITRD, which gives NaN for a constant dimension.

    Example:
        Two samples that agree in a dimension have c = 1/2, and -1/2 where they do not:

        >>> student, teacher = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[5.0, 9.0], [6.0, 7.0]])
        >>> information_correlation_loss(student, teacher, 1.0)
        tensor(1.3219)
    """
    check_same("embeddings", student_embedding, teacher_embedding)
    student, teacher = (_centred(each) for each in (student_embedding, teacher_embedding))
    batch = len(student)
    with torch.autocast(student.device.type, enabled=False):
        scale = _inverse_length(student) * _inverse_length(teacher)
        correlation = torch.linalg.vecdot(student, teacher, dim=0) * scale
    distance = (correlation * ((batch - 1) / batch) - 1).abs()
    loss: Tensor = distance.pow(2 * alpha).sum().log2()
    return loss


def _centred(embedding: Tensor) -> Tensor:
    """The embedding minus its mean over the batch; exactly 0 in a dimension that is constant."""
    wide = full_precision(embedding)
    shifted = wide - wide[:1].detach()
    return shifted - shifted.mean(dim=0)


def _inverse_length(centred: Tensor) -> Tensor:
    """One over the length of each column; 0, without a gradient, for a column of zeros."""
    squared = torch.linalg.vecdot(centred, centred, dim=0)
    there = squared > 0
    inverse: Tensor = squared.masked_fill(~there, 1.0).rsqrt() * there
    return inverse


def information_mutual_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """How little the student's similarities within a batch share with the teacher's.

    Equation, with e the embeddings of each network divided by max(length, 1e-12), and tr the trace::

        G = e e' of the student, H = e e' of the teacher, J = G H element by element, all B x B
        loss = sum of (G / tr G)^2 - sum of (J / tr J)^2

    It is the collision entropy of both networks jointly minus that of the student alone, without logarithms.

    Args:
        student_embedding: B x D.
        teacher_embedding: B x D', any width. Not detached: pass it without gradient.

    Returns:
        A scalar.

    Raises:
        ValueError: the batches differ.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. Epsilon 1e-12
    on lengths and traces; embeddings of zeros alone give 0.

    Source: as :func:`information_correlation_loss`.

    Example:
        >>> information_mutual_loss(torch.ones(2, 1), torch.eye(2))
        tensor(0.5000)
    """
    check_same("batch", student_embedding, teacher_embedding, slice(1))
    own, theirs = _squared_cosines(student_embedding), _squared_cosines(teacher_embedding)
    # Every trace counts the samples that are not 0: it has no gradient.
    traces = own.detach().diagonal().sqrt(), theirs.detach().diagonal().sqrt()
    alone, joint = (trace.clamp(min=1e-12) for trace in (traces[0].sum(), torch.dot(*traces)))
    weights = alone**-2 - theirs / joint**2
    return torch.dot(own.flatten(), weights.flatten())


def _squared_cosines(embedding: Tensor) -> Tensor:
    """The squared cosines of all pairs, B x B; those with an embedding of zeros are 0.

    Lengths are taken from the Gram matrix, which is smaller than the embeddings are.
    """
    wide = full_precision(embedding)
    with torch.autocast(wide.device.type, enabled=False):
        gram = wide @ wide.T
    inverse = gram.diagonal().clamp(min=1e-24).rsqrt()
    return (gram * inverse * inverse[:, None]).square()


class InformationTheoretic(Strategy):
    """ITRD: each dimension of the student's embedding is correlated with the teacher's, and so are similarities.

    Knowledge: the pooled features, dimension by dimension; and which samples of a batch are alike.

    Loss: CE(student, labels) + correlation log2 sum over d of |c_d - 1|^(2 alpha) + mutual (sum of (G / tr G)^2 - sum
    of (J / tr J)^2); c the correlations over the batch of W s + b and t, s and t the embeddings; G the matrix of the
    student's cosines, J that of both networks' multiplied. W and b are trained and discarded after training. A weight
    of 0 leaves its term out.

    Cost: one linear layer of student width x teacher width, and B x B similarities. Serves every pair. The batch is
    part of the loss, so the batch size is part of the strategy's effect.

    Differs from the paper: a dimension that is constant in a batch, as a dead ReLU is, counts as uncorrelated, where
    the authors' code gives NaN. As there, the cosines are those of s where the widths are equal, else of W s + b.
    """

    name = "itrd"
    family = "feature"
    paper = Paper(
        title="Information Theoretic Representation Distillation",
        authors="Roy Miles, Adrian Lopez Rodriguez, Krystian Mikolajczyk",
        year=2022,
        venue="BMVC 2022",
        id="2112.00459",
        code="https://github.com/roymiles/ITRD",
    )
    signals = ("embedding",)

    correlation: float = param(
        2.0,
        "weight of the correlations; 0 leaves them out",
        ge=0.0,
        source="the authors' README, wrn_40_2 -> wrn_16_2 on CIFAR-100",
        search=(0.1, 10.0),
        log=True,
    )
    mutual: float = param(
        1.0,
        "weight of the similarities; 0 leaves them out",
        ge=0.0,
        source="the authors' README, wrn_40_2 -> wrn_16_2 on CIFAR-100; their code's default is 0.05",
        search=(0.01, 10.0),
        log=True,
    )
    alpha: float = param(
        1.01,
        "order of the entropy: higher looks at the least correlated dimensions",
        gt=0.5,
        le=4.0,
        source="the authors' README, wrn_40_2 -> wrn_16_2 on CIFAR-100; their code's default is 1.5",
        search=(1.01, 2.0),
    )

    def build(self, setup: Setup) -> None:
        """Make the adapter."""
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.alike = setup.student.embedding == setup.teacher.embedding

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``correlation`` and ``mutual``."""
        adapted = self.adapter(student.embedding.to(self.adapter.weight.dtype))
        terms: Terms = {}
        if self.correlation:
            loss = information_correlation_loss(adapted, teacher.embedding, self.alpha)
            terms["correlation"] = self.correlation * loss
        if self.mutual:
            own = student.embedding if self.alike else adapted
            terms["mutual"] = self.mutual * information_mutual_loss(own, teacher.embedding)
        return terms
