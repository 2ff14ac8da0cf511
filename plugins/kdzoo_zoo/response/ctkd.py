"""Curriculum temperature: a learned temperature that makes the student's task harder."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence
from kdzoo_zoo.tensors import check_same, full_precision


class _ReversedGradient(torch.autograd.Function):
    """The value as it is, and its gradient times a negative factor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def curriculum_temperature_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    raw_temperature: Tensor,
    reversal: float,
    start: float = 1.0,
    span: float = 20.0,
) -> Tensor:
    """Soft targets at a learned temperature, which is trained against the student.

    Equation::

        T = start + span sigmoid(raw_temperature)
        loss = T^2 mean_b KL(softmax(teacher_logits / T) || softmax(student_logits / T))

    The gradient in ``raw_temperature`` is that of this loss, through both softmaxes and T^2, times - ``reversal``: the
    optimizer that lowers the loss by the student raises it by the temperature. The gradient in the logits is ordinary.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        raw_temperature: shape (1,), any number.
        reversal: at least 0; how strongly the temperature works against the student.
        start: the lowest temperature, above 0.
        span: how far the highest is above it.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where both distributions are equal.

    Raises:
        ValueError: the shapes of the logits differ, or there are several temperatures.

    Precision: computed in float32 for half precision, else in the tensors' own, under autocast too; log-softmax, no
    epsilon.

    Source: Li, Li, Yang, Zhao, Song, Luo, Li, Yang, "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
    arXiv 2211.16231. Authors' code: https://github.com/zhengli97/CTKD, by whose scripts start and span are set. A copy
    in logit-standardization-KD has the flag of the curriculum inverted.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> raw = torch.zeros(1)
        >>> curriculum_temperature_loss(student, teacher, raw, reversal=1.0, start=1.0, span=2.0)  # T = 2
        tensor(0.4438)
    """
    if raw_temperature.numel() != 1:
        raise ValueError(f"raw_temperature is one number, not {tuple(raw_temperature.shape)}")
    check_same("logits", student_logits, teacher_logits)
    raw: Tensor = _ReversedGradient.apply(full_precision(raw_temperature).reshape(()), reversal)
    temperature = start + span * raw.sigmoid()
    return temperature**2 * divergence(student_logits, teacher_logits, temperature, temperature).distance.mean()


def temperature_reversal(batch: Batch, share: float) -> float:
    """How strongly the temperature works against the student: a cosine from 0 to 1, epoch by epoch.

    The e-th epoch, counted from 1, has (1 - cos(pi e / E)) / 2 where e is below E = share x epochs, then 1.

    Args:
        batch: says which epoch runs.
        share: of the training.
    """
    first = share * batch.epochs
    return (1 - math.cos(math.pi * (batch.epoch + 1) / first)) / 2 if batch.epoch + 1 < first else 1.0


class CurriculumTemperature(Strategy):
    """Curriculum temperature: soft targets whose temperature is learned against the student, harder and harder.

    Knowledge: the class probabilities, at the temperature at which the student still differs most from its teacher.

    Loss: ce_weight CE(student, labels) + beta T^2 KL(p_t || p_s), T = start + span sigmoid(r), r a learned number whose
    gradient is reversed, times a factor that rises from 0 to 1 in the first epochs; logits B x classes, KL summed over
    classes, mean over the batch.

    Cost: one softmax, and its gradient in the temperature; one parameter, which is trained with the student's optimizer
    and discarded after training. Serves every pair whose logits have the same classes.

    Differs from the paper: the one temperature for all samples is built, as in the authors' code. The variant with a
    temperature for each sample is left out: neither paper nor code gives the sizes of its network. In the authors'
    trainings as here, T falls to about 2 in the first epochs and stays there.
    """

    name = "ctkd"
    family = "response"
    paper = Paper(
        title="Curriculum Temperature for Knowledge Distillation",
        authors="Zheng Li, Xiang Li, Lingfeng Yang, Borui Zhao, Renjie Song, Lei Luo, Jun Li, Jian Yang",
        year=2023,
        venue="AAAI 2023",
        id="2211.16231",
        code="https://github.com/zhengli97/CTKD",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    beta: float = param(
        0.9,
        "weight of the soft targets",
        ge=0.0,
        imagenet=1.0,
        search=(0.1, 10.0),
        log=True,
        source="the authors' scripts for CIFAR-100 and for ImageNet",
    )
    ce_weight: float = param(
        0.1,
        "weight of the hard-label loss",
        ge=0.0,
        imagenet=1.0,
        source="the authors' scripts for CIFAR-100 and for ImageNet",
    )
    start: float = param(1.0, "the lowest temperature", gt=0.0, source="the authors' scripts")
    span: float = param(
        20.0, "how far the highest is above it", ge=0.0, search=(4.0, 40.0), log=True, source="the authors' scripts"
    )
    curriculum: float = param(
        10 / 240,
        "share of the training in which the reversed gradient rises from 0",
        ge=0.0,
        le=1.0,
        source="the authors' scripts, 10 of 240 epochs; ImageNet: 5 of 120, the same share",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes, and make the temperature."""
        check_classes(self.name, setup)
        # Where the authors' begins: T is about 15.6 with the default start and span.
        self.raw_temperature = nn.Parameter(torch.ones(1))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``ctkd``."""
        reversal = temperature_reversal(batch, self.curriculum)
        loss = curriculum_temperature_loss(
            student.logits, teacher.logits, self.raw_temperature, reversal, self.start, self.span
        )
        return {"ctkd": self.beta * loss}
