"""WKD-F: the Wasserstein distance between Gaussians that describe the two networks' maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.adapters import BatchNorm
from kdzoo_zoo.feature.moments import means_and_deviations
from kdzoo_zoo.schedules import cosine_decay
from kdzoo_zoo.tensors import check_same

_HIDDEN = 256
"""Channels in the bottleneck of the projector."""


def wasserstein_feature_loss(
    student_map: Tensor, teacher_map: Tensor, mean_weight: float, eps: float = 1e-5, grid: int = 1
) -> Tensor:
    """Wasserstein distance between Gaussians with a variance for each channel, one for each cell of a map.

    Equation, with m and d the mean and sqrt(unbiased variance + ``eps``) of a channel in a cell, for both networks::

        loss = sum over b, c, cells of [mean_weight (m_s - m_t)^2 + (d_s - d_t)^2] / (B grid^2)

    With mean_weight = 1 it is the squared 2-Wasserstein distance of the two Gaussians, averaged over batch and cells.

    Args:
        student_map: B x C x H x W, already brought to the teacher's channels by a projector.
        teacher_map: B x C x H' x W', any height and width. Not detached: pass it without gradient.
        mean_weight: weight of the means.
        eps: added to the variances.
        grid: cells a side; where it does not divide a side, cells overlap as in adaptive pooling.

    Returns:
        A scalar, at least 0: summed over channels, the mean over batch and cells; 0 where the maps are equal.

    Raises:
        ValueError: batch or channels differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. The variance of
    a cell with a single position is 0. Gradients of gradients are refused.

    Source: Lv, Yang, Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation", NeurIPS
    2024, arXiv 2412.08139. Authors' code: https://github.com/JiamingLv/WKD.

    Example:
        Means 2 and 0; both variances are 2:

        >>> import torch
        >>> maps = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[-1.0, 1.0]]]])
        >>> wasserstein_feature_loss(*maps, mean_weight=3.0)
        tensor(12.)
    """
    return gaussian_loss(student_map, *means_and_deviations(teacher_map, eps, grid), mean_weight, eps, grid)


def gaussian_loss(
    student_map: Tensor, means: Tensor, deviations: Tensor, mean_weight: float, eps: float, grid: int
) -> Tensor:
    """:func:`wasserstein_feature_loss` on the teacher's means and deviations, B x C x cells."""
    check_same("batch and channels", student_map[:, :, 0, :1], means[:, :, :1])
    own_means, own_deviations = means_and_deviations(student_map, eps, grid)
    distance = mean_weight * F.mse_loss(own_means, means, reduction="sum")
    return (distance + F.mse_loss(own_deviations, deviations, reduction="sum")) / (len(means) * grid**2)


class WassersteinFeatures(Strategy):
    """WKD-F: each channel's mean and spread in the student's last map match the teacher's.

    Knowledge: the last map as a Gaussian over its positions, with a variance for each channel; of a grid of cells, one
    Gaussian for each.

    Loss: CE(student, labels) + beta mean over cells of sum over channels of [mean_weight (m_s - m_t)^2 + (d_s -
    d_t)^2], m and d the means and standard deviations of the projected student's map and of the teacher's. The
    projector ends in BatchNorm and ReLU, is trained with the student, and is discarded after training. From decay_from
    on, beta falls to 0 by a cosine.

    Cost: one projector of student channels x teacher channels; the bank keeps two numbers of a channel and cell. Serves
    every pair; maps of any two sizes, as only means and deviations are compared.

    Differs from the paper: nothing in the loss. Where the sizes differ the authors' projector resizes the student's
    map, which is not needed here. A ViT's map has negative values, which the projector's ReLU cannot give.
    """

    name = "wkd_f"
    family = "feature"
    paper = Paper(
        title="Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation",
        authors="Jiaming Lv, Haoyuan Yang, Peihua Li",
        year=2024,
        venue="NeurIPS 2024",
        id="2412.08139",
        code="https://github.com/JiamingLv/WKD",
    )
    signals = ("stages",)
    per_sample = True
    non_negative = True

    beta: float = param(
        0.08,
        "weight of the distance",
        ge=0.0,
        imagenet=0.02,
        source="the authors' configs: resnet32x4 pairs on CIFAR-100; ImageNet, r34_r18",
        search=(0.001, 1.0),
        log=True,
    )
    mean_weight: float = param(
        4.0,
        "weight of the means beside that of the deviations",
        ge=0.0,
        imagenet=2.0,
        source="the authors' configs",
        search=(0.5, 8.0),
        log=True,
    )
    grid: int = param(1, "cells a side, each a Gaussian", ge=1, le=64, imagenet=4, source="the authors' configs")
    eps: float = param(1e-5, "added to variances", gt=0.0, source="the authors' configs")
    projector: str = param(
        "conv1x1",
        "before BatchNorm and ReLU: one 1x1 convolution, or 1x1, 3x3 and 1x1 ones with 256 channels between",
        choices=("conv1x1", "bottleneck"),
        imagenet="bottleneck",
        source="the authors' configs",
    )
    decay_from: float = param(
        1.0,
        "share of the training after which the weight falls to 0; 1 for never",
        ge=0.0,
        le=1.0,
        source="the paper has none; the authors' code can lower the weight in the last part of a training",
    )

    def build(self, setup: Setup) -> None:
        """Make the projector."""
        if not (setup.student.stages and setup.teacher.stages):
            raise PairError("wkd_f compares the last maps, and one of the networks has none: choose other models")
        own, theirs = setup.student.stages[-1].channels, setup.teacher.stages[-1].channels
        convolutions = [nn.Conv2d(own, theirs, kernel_size=1)]
        if self.projector == "bottleneck":
            convolutions = [
                nn.Conv2d(own, _HIDDEN, kernel_size=1),
                nn.Conv2d(_HIDDEN, _HIDDEN, kernel_size=3, padding=1),
                nn.Conv2d(_HIDDEN, theirs, kernel_size=1),
            ]
        self.project = nn.Sequential(*convolutions, BatchNorm(theirs), nn.ReLU())

    def reduce(self, teacher: Outputs) -> Outputs:
        """Means and deviations of the last map, B x C x cells each."""
        means, deviations = means_and_deviations(teacher.stages[-1], self.eps, self.grid)
        return Outputs({"means": means, "deviations": deviations})

    def reduction(self) -> dict[str, str]:
        """The stage, the grid and what is added to variances."""
        last = f"stages.{len(self.setup.teacher.stages) - 1}"
        return {
            "means": f"{last} means of {self.grid}x{self.grid} cells",
            "deviations": f"{last} deviations of {self.grid}x{self.grid} cells, eps {self.eps!r}",
        }

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``gaussians``."""
        last = student.stages[-1]
        projected = self.project(last.to(next(self.project.parameters()).dtype))
        loss = gaussian_loss(
            projected, teacher.values["means"], teacher.values["deviations"], self.mean_weight, self.eps, self.grid
        )
        return {"gaussians": self.beta * cosine_decay(batch, self.decay_from) * loss}
