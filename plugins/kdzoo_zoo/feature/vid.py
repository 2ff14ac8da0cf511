"""Variational information distillation: the student's maps predict the teacher's, each channel with a variance."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.fitnets import reduce_hint
from kdzoo_zoo.feature.stages import deepest_pairs
from kdzoo_zoo.tensors import check_same, full_precision, pool_to

EPS = 1e-5
"""The least variance, as in RepDistiller."""

FIRST_VARIANCE = 5.0
"""Of each channel, before training."""


def variational_information_loss(
    student_mean: Tensor, teacher_map: Tensor, log_scale: Tensor, eps: float = EPS
) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian that the student predicts.

    Equation, with m = ``student_mean``, t = ``teacher_map``::

        v_c = softplus(log_scale_c) + eps
        loss = mean over b, c, h, w of ((m - t)^2 / v_c + log v_c) / 2

    Args:
        student_mean: B x C x H x W, the regressor's prediction from the student's map.
        teacher_map: B x C x H x W. Not detached: pass it without gradient.
        log_scale: C, trained.
        eps: least variance.

    Returns:
        A scalar, the mean over all elements; without the constant log(2 pi) / 2, and below 0 where the variances are.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too.

    Source: Ahn, Hu, Damianou, Lawrence, Dai, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
    arXiv 1904.05835. The authors' implementation is not public; the values are those of RepDistiller, which has it from
    them.

    Example:
        Variance log(1 + e^0) = 0.6931, difference 1:

        >>> variational_information_loss(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1), eps=0.0)
        tensor(0.5381)
    """
    check_same("maps", student_mean, teacher_map)
    if log_scale.shape != student_mean.shape[1:2]:
        raise ValueError(f"log_scale has shape {tuple(log_scale.shape)}, and the maps {student_mean.shape[1]} channels")
    apart = full_precision(student_mean) - full_precision(teacher_map)
    by_channel = apart.square().sum(dim=(0, 2, 3)) * (apart.shape[1] / apart.numel())
    variance = F.softplus(full_precision(log_scale)) + eps
    return (by_channel / variance + variance.log()).mean() / 2


class VariationalInformation(Strategy):
    """Variational information distillation: the student's maps predict the teacher's, with a variance of each channel.

    Knowledge: the maps of the compared stages, as far as they can be predicted from the student's: a lower bound on the
    mutual information of the two networks.

    Loss: CE(student, labels) + beta sum over the compared stages of mean over all of ((m - t)^2 / v + log v) / 2. t is
    the teacher's map, B x C x H x W; m is predicted from the student's by three 1x1 convolutions with ReLU between,
    without bias, as wide as the teacher's map; v = softplus(log_scale) + 1e-5 of each channel. Both are trained with
    the student. The larger map is average-pooled to the smaller before.

    Cost: three 1x1 convolutions a stage. Serves every pair that has a paired stage.

    Differs from the paper: several stages, each at weight 1, as in RepDistiller, which leaves the first convolution
    out: of networks with more than four paired stages the deepest four are taken, without the stem of a ResNet (last=0
    takes all, last=1 the deepest alone); the paper's own choice also has the logits. The start of v at 5 is
    RepDistiller's.
    """

    name = "vid"
    family = "feature"
    paper = Paper(
        title="Variational Information Distillation for Knowledge Transfer",
        authors="Sungsoo Ahn, Shell Xu Hu, Andreas Damianou, Neil D. Lawrence, Zhenwen Dai",
        year=2019,
        venue="CVPR 2019",
        id="1904.05835",
    )
    signals = ("stages",)
    per_sample = True

    beta: float = param(
        1.0,
        "weight of the sum over stages",
        ge=0.0,
        search=(0.01, 100.0),
        log=True,
        in_paper=False,
        source="RepDistiller, CIFAR-100",
    )
    last: int = param(
        4,
        "how many of the deepest paired stages count, if there are as many; 0: all",
        ge=0,
        source="kdzoo: leaves out the stem of a ResNet, as RepDistiller does",
    )

    def build(self, setup: Setup) -> None:
        """Make a regressor and the variances for each stage."""
        self.compared = deepest_pairs(self.name, setup, self.last)
        self.regressors = nn.ModuleList(
            _regressor(ours.channels, theirs.channels) for _, _, ours, theirs, _ in self.compared
        )
        start = math.log(math.expm1(FIRST_VARIANCE - EPS))
        self.log_scales = nn.ParameterList(
            nn.Parameter(torch.full((theirs.channels,), start)) for _, _, _, theirs, _ in self.compared
        )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The compared stages at the common sizes."""
        return Outputs({"stages": tuple(reduce_hint(teacher.stages[t], size) for _, t, _, _, size in self.compared)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """One text for each compared stage."""
        return {
            "stages": tuple(
                pooled_text(t, (theirs.height, theirs.width), size) for _, t, _, theirs, size in self.compared
            )
        }

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``information``."""
        losses = []
        for (s, _, _, _, size), regressor, scale, target in zip(
            self.compared, self.regressors, self.log_scales, teacher.stages, strict=True
        ):
            fmap = student.stages[s]
            pooled = fmap if fmap.shape[-2:] == size else pool_to(full_precision(fmap), size)
            mean = regressor(pooled.to(scale.dtype))
            losses.append(variational_information_loss(mean, target, scale))
        return {"information": self.beta * torch.stack(losses).sum()}


def pooled_text(stage: int, size: tuple[int, int], pooled: tuple[int, int]) -> str:
    """What :func:`~kdzoo_zoo.feature.fitnets.reduce_hint` makes of a stage, in words."""
    return f"stages.{stage}" + (f" pooled to {pooled[0]}x{pooled[1]}" if size != pooled else "")


def _regressor(channels: int, width: int) -> nn.Sequential:
    widths = (channels, width, width, width)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, kernel_size=1, bias=False), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
