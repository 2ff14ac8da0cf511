"""ReviewKD: the student's deeper levels are fused into each shallower one, and the fused maps match the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, StageShape, Strategy, Terms, param
from kdzoo_zoo.feature.layers import Projector, conv_norm
from kdzoo_zoo.schedules import warm_up
from kdzoo_zoo.tensors import check_same, full_precision, in_memory_order, mean_square, pool_to

SIZES = (4, 2, 1)
"""Sizes to which the maps of a level are pooled, beside their own."""


def hierarchical_context_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Squared differences of maps at several scales, from their own size to their mean.

    Equation, for each level with maps s, t of height H, and the sizes k of (4, 2, 1) that are below H::

        level = [mean (s - t)^2 + sum_i 2^-i mean (pool_ki(s) - pool_ki(t))^2] / (1 + sum_i 2^-i)
        loss = sum of the levels

    with pool_k average pooling to k x k, and i = 1, 2, .. counting the sizes that are taken, from the largest.

    Args:
        student_maps: for each level B x C x H x W, already brought to the teacher's shapes.
        teacher_maps: likewise. Not detached: pass them without gradient.

    Returns:
        A scalar, at least 0: the sum over levels, of means over all elements; 0 where the maps are equal.

    Raises:
        ValueError: the numbers of levels differ, or the shapes of a level.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021, arXiv 2104.09044. Authors'
    code: https://github.com/dvlab-research/ReviewKD. The paper names the pyramid; its sizes and weights are those of
    the code.

    Example:
        >>> hierarchical_context_loss([torch.tensor([[[[1.0, 3.0], [0.0, 0.0]]]])], [torch.zeros(1, 1, 2, 2)])
        tensor(2.)
    """
    if len(student_maps) != len(teacher_maps):
        raise ValueError(f"the student has {len(student_maps)} levels and the teacher {len(teacher_maps)}")
    levels = [_level(student, teacher) for student, teacher in zip(student_maps, teacher_maps, strict=True)]
    return torch.stack(levels).sum()


def _level(student: Tensor, teacher: Tensor) -> Tensor:
    check_same("maps of a level", student, teacher)
    student, teacher = full_precision(student), full_precision(teacher)
    losses, weights = [F.mse_loss(*in_memory_order(student, teacher))], [1.0]
    height, width = student.shape[-2:]
    apart: Tensor | None = None
    for size in (size for size in SIZES if size < height):
        # What was pooled to twice the size holds all that is needed, where its cells make up whole ones of the next.
        if apart is None or height % (2 * size) or width % (2 * size):
            apart = pool_to(student, (size, size)) - pool_to(teacher, (size, size))
        else:
            apart = F.avg_pool2d(apart, 2)
        losses.append(mean_square(apart))
        weights.append(weights[-1] / 2)
    shares = torch.tensor(weights, dtype=student.dtype, device=student.device) / sum(weights)
    return (torch.stack(losses) * shares).sum()


class Fusion(nn.Module):
    """One level of the student, fused with the deeper ones, at the teacher's shape.

    Args:
        own: shape of the student's map at this level.
        teacher: shape of the teacher's map.
        mid: channels in which levels are fused.
        deepest: whether there is no deeper level.
    """

    def __init__(self, own: StageShape, teacher: StageShape, mid: int, *, deepest: bool) -> None:
        super().__init__()
        self.size, self.teacher_size = tuple(own[1:]), tuple(teacher[1:])
        self.enter = conv_norm(own.channels, mid)
        self.attend = None if deepest else Projector(nn.Conv2d(2 * mid, 2, 1), nn.Sigmoid())
        self.leave = conv_norm(mid, teacher.channels, 3)
        for part in (self.enter, self.leave):
            nn.init.kaiming_uniform_(part.weight, a=1)

    def forward(self, own: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The map for the teacher, and the one that the next level is fused with."""
        fused = self.enter(own)
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, self.size, mode="nearest")
            first, second = self.attend(torch.cat([fused, deeper], dim=1)).split(1, dim=1)
            fused = first * fused + second * deeper
        if self.size != self.teacher_size:
            fused = F.interpolate(fused, self.teacher_size, mode="nearest")
        return self.leave(fused), fused


class ReviewKD(Strategy):
    """ReviewKD: each level of the student, fused with all deeper ones, matches one level of the teacher.

    Knowledge: the teacher's maps of the deepest paired stages, before their activations, and its embedding as a map of
    one position.

    Loss: CE(student, labels) + beta w sum over levels of hierarchical_context_loss(fused s, t), s and t the stages and
    the embedding, w rising linearly over the first share ``ramp`` of the training. From the deepest level on, a fusion
    module brings the student's map to a common width by a 1x1 convolution, adds the fused map of the level before with
    learned weights of each position, and brings the sum to the teacher's channels by a 3x3 convolution.

    Cost: the fusion modules, of which the 3x3 convolutions are most: 9 x mid x teacher channels weights a level.
    Serves every pair that has a paired stage. Sizes are made equal by repeating values (nearest neighbour).

    Differs from the paper: nothing in the equation. As in the authors' code, the teacher's maps are those before the
    activation, where one produces them, and the student's those after it. Of networks with more than four paired stages
    the deepest four are taken, which leaves out the stem of a ResNet, as the authors do.
    """

    name = "reviewkd"
    family = "feature"
    paper = Paper(
        title="Distilling Knowledge via Knowledge Review",
        authors="Pengguang Chen, Shu Liu, Hengshuang Zhao, Jiaya Jia",
        year=2021,
        venue="CVPR 2021",
        id="2104.09044",
        code="https://github.com/dvlab-research/ReviewKD",
    )
    revision = "2"
    signals = ("stages", "embedding")
    teacher_signals = ("pre_stages", "embedding")
    per_sample = True
    non_negative = True

    beta: float = param(
        5.0,
        "weight of the sum over levels",
        ge=0.0,
        search=(0.1, 20.0),
        log=True,
        imagenet=1.0,
        source="the authors' scripts: 5 for most pairs of CIFAR-100, 0.6 to 8 for the others; ImageNet: ResNet18",
    )
    ramp: float = param(
        20 / 240,
        "share of the training in which the weight rises from 0",
        ge=0.0,
        le=1.0,
        imagenet=0.01,
        source="the authors' CIFAR-100 code: 20 of 240 epochs; mdistiller's ImageNet configuration: 1 of 100",
    )
    levels: int = param(
        4, "paired stages, from the deepest; the embedding is one more level", ge=1, in_paper=False, source="kdzoo"
    )
    mid: int = param(512, "most channels in which levels are fused", ge=1, source="the authors' code")

    def build(self, setup: Setup) -> None:
        """Make a fusion module for each level."""
        if not setup.stage_pairs:
            raise PairError(
                "reviewkd needs a paired stage, and this teacher and student have none: choose other models"
            )
        self.compared = setup.stage_pairs[-self.levels :][::-1]
        pooled = (StageShape(setup.student.embedding, 1, 1), StageShape(setup.teacher.embedding, 1, 1))
        shapes = [pooled, *setup.paired_shapes()[-self.levels :][::-1]]
        mid = min(self.mid, setup.student.embedding)
        self.fusions = nn.ModuleList(
            Fusion(own, theirs, mid, deepest=place == 0) for place, (own, theirs) in enumerate(shapes)
        )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The compared stages, deepest first, and the embedding."""
        stages = tuple(teacher.pre_stages[t] for _, t in self.compared)
        return Outputs({"pre_stages": stages, "embedding": teacher.embedding})

    def reduction(self) -> dict[str, str | tuple[str, ...]]:
        """The signals as they are."""
        return {"pre_stages": tuple(f"pre_stages.{t}" for _, t in self.compared), "embedding": "embedding"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``review``."""
        levels = [student.embedding[:, :, None, None], *(student.stages[s] for s, _ in self.compared)]
        fused: list[Tensor] = []
        deeper: Tensor | None = None
        for fusion, level in zip(self.fusions, levels, strict=True):
            out, deeper = fusion(level, deeper)
            fused.append(out)
        targets = [teacher.embedding[:, :, None, None], *teacher.pre_stages]
        return {"review": self.beta * warm_up(batch, self.ramp) * hierarchical_context_loss(fused, targets)}
