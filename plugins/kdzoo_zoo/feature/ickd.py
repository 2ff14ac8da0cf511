"""ICKD: how the student's channels resemble one another matches the teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.layers import conv_norm
from kdzoo_zoo.tensors import check_same, full_precision


def inter_channel_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared differences of two networks' similarities between channels.

    Equation, for each network's map x of a sample, with C channels flattened to rows x_i::

        G = x x',  g_i = G_i / max(||G_i||, 1e-12), the rows of G normalised
        loss = 1 / (C B^2) sum over b, i, j of (g_ij of the student - g_ij of the teacher)^2

    G has C^2 entries for each sample, far more than a deep map itself. The sum needs only inner products of its rows,
    <G_i, G'_i> = x_i' (x' y) y_i for maps x and y, and x' y is a matrix of positions: where that is smaller, G is not
    made. Value and gradient are the same.

    Args:
        student_map: B x C x H x W, already brought to the teacher's channels by an adapter.
        teacher_map: B x C x H' x W', any size. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0 up to rounding: summed over channels, divided by C and twice by B; 0 where both maps are
        equal.

    Raises:
        ValueError: batch or channels differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. Epsilon 1e-12 on
    the lengths; a channel of zeros gives a row of zeros.

    Source: Liu, Huang, Lin, Xie, Wang, Chang, Liang, "Exploring Inter-Channel Correlation for Diversity-Preserved
    Knowledge Distillation", ICCV 2021, arXiv 2202.03680. Authors' code: https://github.com/ADLab-AutoDrive/ICKD. Their
    code for ImageNet divides by C B^2, which is taken here, the one for CIFAR-100 by C B.

    Example:
        >>> inter_channel_loss(torch.eye(2).view(1, 2, 1, 2), torch.ones(1, 2, 1, 2))
        tensor(0.5858)
    """
    check_same("batch and channels", student_map, teacher_map, slice(2))
    student, teacher = full_precision(student_map).flatten(2), full_precision(teacher_map).flatten(2)
    batch, channels = student.shape[:2]
    with torch.autocast(student.device.type, enabled=False):
        if max(student.shape[2], teacher.shape[2]) < channels / 2:
            summed = _by_positions(student, teacher)
        else:
            own, theirs = (F.normalize(x @ x.mT, dim=2, eps=1e-12) for x in (student, teacher))
            summed = (own - theirs).square().sum()
    return summed / (channels * batch**2)


def _by_positions(student: Tensor, teacher: Tensor) -> Tensor:
    """The sum of the equation, from matrices of positions alone."""

    def products(x: Tensor, y: Tensor) -> Tensor:
        """<G_i of x, G_i of y>, B x C."""
        found: Tensor = torch.linalg.vecdot(x @ (x.mT @ y), y, dim=2)
        return found

    own, theirs, both = products(student, student), products(teacher, teacher), products(student, teacher)
    # Rows shorter than 1e-12 are divided by that.
    ours, others = own.clamp(min=1e-24), theirs.clamp(min=1e-24)
    return (own / ours + theirs / others - 2 * both / (ours.sqrt() * others.sqrt())).sum()


class InterChannelKD(Strategy):
    """ICKD: the similarities between the channels of the last map match the teacher's.

    Knowledge: the similarities between all channels of the teacher's deepest paired stage, wherever in the map they
    are.

    Loss: CE(student, labels) + beta / C mean over the batch of sum over i, j of (g_ij(adapter(s)) - g_ij(t))^2, g the
    rows of x x', normalised, x a map of stages as C rows. The adapter is a 1x1 convolution with BatchNorm to the
    teacher's channels.

    Cost: one adapter; products of the maps with themselves. Serves every pair that has a paired stage; the maps may
    have any two sizes.

    Differs from the paper: nothing in the similarities. The authors' code for ImageNet divides by the batch once more
    and has an adapter of 3x3; ``squared`` and ``kernel`` choose that form. An adapter of the teacher's map, which the
    authors make and never use, is left out.
    """

    name = "ickd"
    family = "feature"
    paper = Paper(
        title="Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation",
        authors="Li Liu, Qingle Huang, Sihao Lin, Hongwei Xie, Bing Wang, Xiaojun Chang, Xiaodan Liang",
        year=2021,
        venue="ICCV 2021",
        id="2202.03680",
        code="https://github.com/ADLab-AutoDrive/ICKD",
    )
    signals = ("stages",)
    non_negative = True

    beta: float = param(
        2.5,
        "weight of the term",
        ge=0.0,
        search=(0.1, 500.0),
        log=True,
        imagenet=500.0,
        source="the authors' code for CIFAR-100; ImageNet: torchdistill's configuration",
    )
    squared: bool = param(
        False,
        "divide by the square of the batch, not by the batch",
        imagenet=True,
        source="the authors' code for CIFAR-100, and for ImageNet",
    )
    kernel: int = param(
        1,
        "of the adapter, 1x1 or 3x3",
        choices=(1, 3),
        imagenet=3,
        source="the authors' code for CIFAR-100, and for ImageNet",
    )

    def build(self, setup: Setup) -> None:
        """Make the adapter of the deepest stage."""
        if not setup.stage_pairs:
            raise PairError("ickd needs a paired stage, and this teacher and student have none: choose other models")
        self.student_stage, self.teacher_stage = setup.stage_pairs[-1]
        student, teacher = setup.paired_shapes()[-1]
        self.adapter = conv_norm(student.channels, teacher.channels, self.kernel)

    def reduce(self, teacher: Outputs) -> Outputs:
        """The deepest stage alone."""
        return Outputs({"stages": (teacher.stages[self.teacher_stage],)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage as it is: its similarities are more numbers than it has."""
        return {"stages": (f"stages.{self.teacher_stage}",)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``channels``."""
        adapted = self.adapter(student.stages[self.student_stage])
        weight = self.beta if self.squared else self.beta * len(adapted)
        return {"channels": weight * inter_channel_loss(adapted, teacher.stages[0])}
