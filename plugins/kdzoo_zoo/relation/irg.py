"""Instance relationship graph: samples, their distances, and how these change between stages, match the teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.gram import squared_distances
from kdzoo_zoo.relation.rows import as_rows
from kdzoo_zoo.tensors import check_same, full_precision, pool_to


def instance_edge_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Difference of the two networks' distances between the samples of a batch, each on the scale of its largest.

    Equation, with x the signal of a network, flattened to B rows::

        A_ij = ||x_i - x_j||^2 / max over i, j of ||x_i - x_j||^2
        loss = mean over i, j of (A_ij of the student - A_ij of the teacher)^2

    The gradient goes through the maximum. Where all samples coincide, A is 0.

    Args:
        student: B x any shape.
        teacher: B x any shape, of another size if need be. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all B x B pairs; 0 where the signals are equal (also up to rotation, shift
        and scale), and for B = 1.

    Raises:
        ValueError: the batches differ.

    Precision: computed in float32 for half-precision signals, else in their own, under autocast too, after the batch's
    mean is subtracted. No epsilon; distances within rounding of 0 are 0, without a gradient.

    Source: Liu, Cao, Li, Yuan, Hu, Li, Duan, "Knowledge Distillation via Instance Relationship Graph", CVPR 2019.
    Authors' code: https://github.com/yufanLIU/IRG, a layer for Caffe with the same value, in which the maximum is a
    constant; AberHu's zoo differentiates it, as here.

    Example:
        Distances 1, 1 and 2 on a line against an equilateral triangle:

        >>> instance_edge_loss(torch.tensor([[0.0], [1.0], [2.0]]), torch.eye(3))
        tensor(0.2500)
    """
    student, teacher = as_rows(student), as_rows(teacher)
    check_same("batch", student, teacher, slice(1))
    edges = _of_largest(squared_distances(student)) - _of_largest(squared_distances(teacher))
    return edges.square().mean()


def instance_transformation_loss(
    student_bottom: Tensor, student_top: Tensor, teacher_bottom: Tensor, teacher_top: Tensor
) -> Tensor:
    """Difference of how far each sample's map moves from stage to stage, on the scale of the batch's largest move.

    Equation, for each network, with both maps brought to one shape::

        d_i = ||bottom_i - top_i||^2,  r_i = d_i / max over i of d_i
        loss = mean over i of (r_i of the student - r_i of the teacher)^2

    A bottom map that is spatially larger is average-pooled to the size of the top map. Where the top map has twice the
    channels, its channels 0 and 1, 2 and 3, ... are averaged. Other numbers of channels are brought to the smaller one
    in the same way, adaptively: each channel of the result is the mean of the neighbouring channels that it covers.

    Args:
        student_bottom: B x C x H x W, the map of a stage.
        student_top: B x C' x H' x W', the map of a deeper stage.
        teacher_bottom: B x any C x H x W. Not detached: pass it without gradient.
        teacher_top: B x any C x H x W, likewise.

    Returns:
        A scalar, at least 0: the mean over the batch; 0 where the maps are equal, and for B = 1.

    Raises:
        ValueError: the batches differ.

    Precision: as :func:`instance_edge_loss`, without subtracting a mean. No epsilon.

    Source: as :func:`instance_edge_loss`. The values are those of AberHu's zoo, which serves equal channels and twice
    as many; the other cases are kdzoo's.

    Example:
        The student's samples move by 1 and 2, the teacher's by 1 and 1:

        >>> still = torch.zeros(2, 1, 1, 1)
        >>> moved = torch.tensor([1.0, 2.0])[:, None, None, None]
        >>> instance_transformation_loss(still, moved, still, still + 1)
        tensor(0.2812)
    """
    check_same("batch", student_bottom, student_top, slice(1), of=("the student's lower map", "its upper map"))
    check_same("batch", student_top, teacher_top, slice(1))
    return reduced_transformation_loss(
        moved_distances(student_bottom, student_top), moved_distances(teacher_bottom, teacher_top)
    )


def moved_distances(bottom: Tensor, top: Tensor) -> Tensor:
    """The d of :func:`instance_transformation_loss` for one network: B values."""
    check_same("batch", bottom, top, slice(1), of=("lower map", "upper map"))
    bottom, top = full_precision(bottom), full_precision(top)
    size = (min(bottom.shape[2], top.shape[2]), min(bottom.shape[3], top.shape[3]))
    bottom, top = pool_to(bottom, size), pool_to(top, size)
    channels = min(bottom.shape[1], top.shape[1])
    apart = _to_channels(bottom, channels) - _to_channels(top, channels)
    return apart.square().sum(dim=(1, 2, 3))


def reduced_transformation_loss(student_distances: Tensor, teacher_distances: Tensor) -> Tensor:
    """:func:`instance_transformation_loss` on what :func:`moved_distances` gives of each network, B values."""
    check_same("batch", student_distances, teacher_distances)
    return F.mse_loss(_of_largest(student_distances), _of_largest(teacher_distances))


def _to_channels(x: Tensor, channels: int) -> Tensor:
    """B x C x H x W to fewer channels, each the mean of neighbouring ones."""
    if x.shape[1] == channels:
        return x
    if x.shape[1] == 2 * channels:
        return x.reshape(len(x), channels, 2, *x.shape[2:]).mean(dim=2)
    by_channel = F.adaptive_avg_pool1d(x.flatten(2).mT.flatten(0, 1)[:, None], channels)
    return by_channel.reshape(len(x), -1, channels).mT.reshape(len(x), channels, *x.shape[2:])


def _of_largest(x: Tensor) -> Tensor:
    largest = x.amax()
    return x / largest.masked_fill(largest == 0, 1.0)


class InstanceRelationshipGraph(Strategy):
    """Instance relationship graph: samples, their distances, and how these change between stages, match the teacher's.

    Knowledge: the logits (vertices), the distances between the samples of a batch in the pooled features and in two
    consecutive stages (edges), and how far each sample moves between the two stages (transformations).

    Loss: CE(student, labels) + vertex mean of (z_s - z_t)^2 over logits, B x K, + edge mean of three edge losses, of
    the embedding and of the maps of the two deepest paired stages, + transformation mean over samples of (r_s - r_t)^2,
    r the squared distance of a sample's two maps. Distances are divided by the largest of the batch. A weight of 0
    leaves its term out.

    Cost: three products of B x D with itself for each network; no adapters. Serves every pair with the same classes and
    two paired stages. Relations are those within one batch.

    Differs from the paper: weights from AberHu's zoo, of which the values are. Where the maps of two consecutive stages
    differ in channels otherwise than by a factor of two, neighbouring channels are averaged to the smaller number.
    """

    name = "irg"
    family = "relation"
    paper = Paper(
        title="Knowledge Distillation via Instance Relationship Graph",
        authors="Yufan Liu, Jiajiong Cao, Bing Li, Chunfeng Yuan, Weiming Hu, Yangxi Li, Yunqiang Duan",
        year=2019,
        venue="CVPR 2019",
        id="10.1109/CVPR.2019.00726",
        code="https://github.com/yufanLIU/IRG",
    )
    signals = ("logits", "stages", "embedding")
    zero_when_equal = True
    non_negative = True
    symmetric = True

    vertex: float = param(
        0.1,
        "weight of the logits",
        ge=0.0,
        search=(0.01, 1.0),
        log=True,
        in_paper=False,
        source="AberHu's zoo, CIFAR",
    )
    edge: float = param(
        5.0,
        "weight of the distances",
        ge=0.0,
        search=(0.1, 100.0),
        log=True,
        in_paper=False,
        source="AberHu's zoo, CIFAR",
    )
    transformation: float = param(
        5.0,
        "weight of the moves between stages",
        ge=0.0,
        search=(0.1, 100.0),
        log=True,
        in_paper=False,
        source="AberHu's zoo, CIFAR",
    )

    def build(self, setup: Setup) -> None:
        """Take the two deepest paired stages."""
        check_classes(self.name, setup)
        if len(setup.stage_pairs) < 2:
            raise PairError("irg needs two paired stages, and these networks have fewer: choose other models")
        self.places = setup.stage_pairs[-2:]

    def reduce(self, teacher: Outputs) -> Outputs:
        """Logits, embedding and two maps: distances between samples are made with the batch."""
        maps = tuple(teacher.stages[t] for _, t in self.places)
        return Outputs({"logits": teacher.logits, "embedding": teacher.embedding, "stages": maps})

    def reduction(self) -> dict[str, str | tuple[str, ...]]:
        """The signals as they are."""
        maps = tuple(f"stages.{t}" for _, t in self.places)
        return {"logits": "logits", "embedding": "embedding", "stages": maps}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``vertex``, ``edge`` and ``transformation``."""
        maps = [student.stages[s] for s, _ in self.places]
        terms: Terms = {}
        if self.vertex:
            logits = full_precision(student.logits), full_precision(teacher.logits)
            terms["vertex"] = self.vertex * F.mse_loss(*logits)
        if self.edge:
            pairs = [(student.embedding, teacher.embedding), *zip(maps, teacher.stages, strict=True)]
            terms["edge"] = self.edge * torch.stack([instance_edge_loss(*pair) for pair in pairs]).mean()
        if self.transformation:
            moved = instance_transformation_loss(*maps, *teacher.stages)
            terms["transformation"] = self.transformation * moved
        return terms
