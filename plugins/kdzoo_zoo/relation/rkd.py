"""Relational knowledge distillation: distances and angles between the samples of a batch match the teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Strategy, Terms, param
from kdzoo_zoo.relation.angles import AngleSum
from kdzoo_zoo.relation.geometry import Geometry, geometry
from kdzoo_zoo.relation.rows import unit_rows
from kdzoo_zoo.tensors import check_same, full_precision


def relational_distance_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Difference of the two networks' pairwise distances within a batch, each on the scale of its own mean.

    Equation, for each network's embeddings e::

        d_ij = sqrt(max(||e_i - e_j||^2, 1e-12)) for i != j,  d_ii = 0
        r_ij = d_ij / mean of the positive d
        loss = mean over i, j of smooth_l1(r_ij of the student, r_ij of the teacher)

    with smooth_l1(a, b) = (a - b)^2 / 2 where |a - b| < 1, else |a - b| - 1/2.

    Args:
        student_embedding: B x D.
        teacher_embedding: B x D', any width. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all B x B pairs, the diagonal among them; 0 where the embeddings are equal
        (also up to rotation, shift and scale), and for B = 1.

    Raises:
        ValueError: the batches differ.

    Precision: relations in float64 (see :func:`~kdzoo_zoo.relation.geometry.geometry`), the result in the student's
    own precision, at least float32. Epsilon 1e-12 on squared distances; coincident samples get no gradient.

    Source: Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, arXiv 1904.05068. Authors' code:
    https://github.com/lenscloth/RKD. The values are those of the code; the precision is higher.

    Example:
        A triangle with sides 3, 4 and 5 against an equilateral one:

        >>> relational_distance_loss(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), torch.eye(3))
        tensor(0.0139)
    """
    return _distance_loss(*_geometries(student_embedding, teacher_embedding)).to(_wide(student_embedding))


def _distance_loss(student: Geometry, teacher: Geometry) -> Tensor:
    return F.smooth_l1_loss(_relative_distances(student.squared), _relative_distances(teacher.squared))


def _relative_distances(squared: Tensor) -> Tensor:
    batch = len(squared)
    itself = torch.eye(batch, dtype=torch.bool, device=squared.device)
    distance = squared.clamp(min=1e-12).sqrt().masked_fill(itself, 0.0)
    # The clamp makes every distance off the diagonal positive; with B = 1 there is none, and 0 / 1 is 0.
    mean = distance.sum() / (batch * (batch - 1)) if batch > 1 else 1.0
    return distance / mean


def relational_angle_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Difference of the two networks' angles in all triplets of a batch.

    Equation, for each network's embeddings e and the unit vectors u_ij = (e_j - e_i) / ||e_j - e_i||::

        cos_ijk = <u_ij, u_ik>, the cosine of the angle at sample i between samples j and k
        loss = mean over i, j, k of smooth_l1(cos_ijk of the student, cos_ijk of the teacher)

    with smooth_l1 as in :func:`relational_distance_loss`. A vector between coincident samples (i = j among them) is
    zero and stays zero, so its cosines are 0.

    Args:
        student_embedding: B x D.
        teacher_embedding: B x D', any width. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all B x B x B triplets, degenerate ones among them; 0 where the embeddings
        are equal (also up to rotation, shift and scale), and for B = 1.

    Raises:
        ValueError: the batches differ.

    Precision: as :func:`relational_distance_loss`; no epsilon, coincident samples get no gradient.

    Memory: the vectors (B^3 x D numbers for all) are never made: with the Gram matrix G of the embeddings, cos_ijk =
    (G_jk - G_ij - G_ik + G_ii) / (||e_j - e_i|| ||e_k - e_i||). The B^3 cosines are made for a few anchors i at a time,
    and with them their share of the gradient, which is B x B numbers (see
    :class:`~kdzoo_zoo.relation.angles.AngleSum`). Time grows with B^3 and, beside that, not with D. Gradients of
    gradients are refused.

    Source: as :func:`relational_distance_loss`. The authors' code divides by max(norm, 1e-12), which has the same
    value and, where samples coincide, a gradient 1e12 times too large; here that gradient is 0.

    Example:
        The same triangles; the cosines of the first are 0, 0.6 and 0.8:

        >>> relational_angle_loss(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), torch.eye(3))
        tensor(0.0130)
    """
    return _angle_loss(*_geometries(student_embedding, teacher_embedding)).to(_wide(student_embedding))


def _angle_loss(student: Geometry, teacher: Geometry) -> Tensor:
    total = AngleSum.apply(student.gram, _inverse(student.squared), teacher.gram, _inverse(teacher.squared))
    mean: Tensor = total / len(student.gram) ** 3
    return mean


def _inverse(squared: Tensor) -> Tensor:
    """One over each distance; 0, without a gradient, between coincident samples."""
    apart = squared != 0
    return squared.masked_fill(~apart, 1.0).rsqrt() * apart


def _geometries(student_embedding: Tensor, teacher_embedding: Tensor) -> tuple[Geometry, Geometry]:
    check_same("batch", student_embedding, teacher_embedding, slice(1))
    return geometry(student_embedding), geometry(teacher_embedding)


def _wide(embedding: Tensor) -> torch.dtype:
    return torch.promote_types(embedding.dtype, torch.float32)


class RelationalKD(Strategy):
    """Relational knowledge distillation: distances and angles between the samples of a batch match the teacher's.

    Knowledge: the geometry of a batch in the pooled features, free of their width, rotation, shift and scale.

    Loss: CE(student, labels) + distance x smooth L1 of the pairwise distances, each network's divided by their mean,
    + angle x smooth L1 of the cosines in all triplets. A weight of 0 leaves its term out (RKD-D, RKD-A).

    Cost: no adapters; the angle term takes time that grows with the cube of the batch. Serves every pair. Relations are
    those within one batch, so the batch size is part of the strategy's effect.

    Differs from the paper: higher precision, and no gradient from coincident samples. The weights 25 and 50 are those
    in common use on classification; the authors' metric-learning runs use 1 and 2.
    """

    name = "rkd"
    family = "relation"
    paper = Paper(
        title="Relational Knowledge Distillation",
        authors="Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho",
        year=2019,
        venue="CVPR 2019",
        id="1904.05068",
        code="https://github.com/lenscloth/RKD",
    )
    signals = ("embedding",)
    zero_when_equal = True
    non_negative = True
    symmetric = True

    distance: float = param(
        25.0,
        "weight of the distances; 0 leaves them out",
        ge=0.0,
        search=(1.0, 100.0),
        log=True,
        in_paper=False,
        source="RepDistiller, CIFAR-100; torchdistill, and the authors' metric learning, have 1",
    )
    angle: float = param(
        50.0,
        "weight of the angles; 0 leaves them out",
        ge=0.0,
        search=(1.0, 200.0),
        log=True,
        in_paper=False,
        source="RepDistiller, CIFAR-100; torchdistill, and the authors' metric learning, have 2",
    )

    normalize: bool = param(
        False,
        "scale every embedding of both networks to length 1 first",
        in_paper=False,
        added=True,
        source="the authors' metric learning has it for the student; MMRazor for both networks",
    )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``distance`` and ``angle``."""
        own, theirs = student.embedding, teacher.embedding
        if self.normalize:
            own, theirs = unit_rows(full_precision(own)), unit_rows(full_precision(theirs))
        pair, wide = _geometries(own, theirs), _wide(own)
        terms: Terms = {}
        if self.distance:
            terms["distance"] = self.distance * _distance_loss(*pair).to(wide)
        if self.angle:
            terms["angle"] = self.angle * _angle_loss(*pair).to(wide)
        return terms
