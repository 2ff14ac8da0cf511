"""my-strategy: the student's maps get the teacher's statistics.

Put your own loss in this place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from torch import Tensor, nn


def full_precision(x: Tensor) -> Tensor:
    """At least float32: in half precision small differences and long sums are lost."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def channel_statistics(feature_map: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over its positions.

    Args:
        feature_map: B x C x H x W.

    Returns:
        Two tensors of B x C. 1e-5 is added to the variance, so that the gradient of the
        root exists where a channel is constant.
    """
    values = full_precision(feature_map).flatten(2)
    variance, mean = torch.var_mean(values, dim=2, correction=0)
    return mean, (variance + 1e-5).sqrt()


def distillation_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the two maps' channel statistics.

    Equation, with m and d the mean and standard deviation of a channel::

        loss = mean over b and c of (m_student - m_teacher)^2 + (d_student - d_teacher)^2

    Args:
        student_map: B x C x H x W, brought to the teacher's channels by an adapter.
        teacher_map: B x C x H' x W', without gradient; the size may differ.

    Returns:
        A scalar, at least 0; 0 where the statistics are equal.

    Source: the squared difference of statistics that Yang et al. 2020, arXiv 2003.04289,
    start from. Their own method evaluates the statistics by the teacher instead.

    Example:
        >>> distillation_loss(torch.full((1, 1, 2, 2), 3.0), torch.ones(1, 1, 4, 4))
        tensor(4.)
    """
    student_mean, student_deviation = channel_statistics(student_map)
    teacher_mean, teacher_deviation = channel_statistics(teacher_map)
    return F.mse_loss(student_mean, teacher_mean) + F.mse_loss(
        student_deviation, teacher_deviation
    )


class Adapter(nn.Conv2d):
    """A 1x1 convolution to the teacher's channels, in the precision of its own weights."""

    def forward(self, x: Tensor) -> Tensor:
        """B x student's channels x H x W to B x teacher's channels x H x W."""
        return super().forward(x.to(self.weight.dtype))


class MyStrategy(Strategy):
    """Statistics matching: at each paired stage the student's channels, through a trained
    adapter, get the mean and standard deviation of the teacher's.

    Knowledge: how strong each channel of a stage's map is, and how much it varies.

    Loss: CE(student, labels) + beta mean over paired stages of the squared differences
    of mean and standard deviation, over positions, of adapter(s) and t.

    Signals and shapes: the stages of both networks, s of B x C x H x W and t of
    B x C' x H' x W'; the adapter maps C to C', and the sizes may differ. Serves every pair
    that has a paired stage.

    Cost: one pass over the maps, and a 1x1 convolution for each paired stage.

    Differs from the paper: this is the plain form that the paper compares with, with
    standard deviations instead of variances. The default of beta is not the paper's.
    """

    name = "my-strategy"
    family = "feature"
    paper = Paper(
        title="Knowledge distillation via adaptive instance normalization",
        authors="Jing Yang, Brais Martinez, Adrian Bulat, Georgios Tzimiropoulos",
        year=2020,
        venue="arXiv",
        id="2003.04289",
    )
    signals = ("stages",)

    # What the conformance kit holds this loss to; change it with the loss.
    per_sample = True
    non_negative = True

    beta: float = param(
        1.0, "weight of the term", ge=0.0, search=(0.01, 100.0), log=True
    )

    def build(self, setup: Setup) -> None:
        """One adapter for each paired stage; kdzoo trains them with the student."""
        if not setup.stage_pairs:
            raise PairError(
                "my-strategy needs a paired stage, and this teacher and student have "
                "none: choose other models"
            )
        self.adapters = nn.ModuleList(
            Adapter(own.channels, theirs.channels, kernel_size=1)
            for own, theirs in setup.paired_shapes()
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``statistics``."""
        losses = [
            distillation_loss(adapter(student.stages[s]), teacher.stages[t])
            for adapter, (s, t) in zip(
                self.adapters, self.setup.stage_pairs, strict=True
            )
        ]
        return {"statistics": self.beta * torch.stack(losses).mean()}
