"""Normalised logits: every sample has temperatures of its own, by the spread of its logits."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import deviation, divergence
from kdzoo_zoo.tensors import check_same


def normalized_temperature_loss(
    student_logits: Tensor, teacher_logits: Tensor, scale: float, skip_constant: bool = False
) -> Tensor:
    """Soft targets with a temperature for each sample and network: its logits' standard deviation.

    Equation, with z the logits and std over classes, by K - 1::

        T_x = scale std(z_x),  p_x = softmax(z_x / T_x),  x = s, t
        loss = mean_b T_t^2 KL(p_t || p_s)

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached, in T_t neither: pass it without gradient.
        scale: above 0; higher is softer.
        skip_constant: whether a sample to which a network gives the same logit in all classes, and so has no
            temperature, counts as 0 in the mean, in place of an error.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where the logits are equal.

    Raises:
        ValueError: the shapes differ; or a row of logits is constant, and ``skip_constant`` is False.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; the deviation
    from centred values, log-softmax, no epsilon.

    Source: Chi, Zheng, Li, Yang, Wu, Lin, Cai, "NormKD: Normalized Logits for Knowledge Distillation", 2023, arXiv
    2308.00520. Authors' code: https://github.com/gizi1/NormKD.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[2.0, 0.0, 4.0]])
        >>> normalized_temperature_loss(student, teacher, scale=1.0)  # 4 (e - 1) / (1 + e + e^2)
        tensor(0.6188)
    """
    check_same("logits", student_logits, teacher_logits)
    own, theirs = deviation(student_logits), deviation(teacher_logits)
    constant = (own == 0) | (theirs == 0)
    if not skip_constant and constant.any():
        raise ValueError("a row of logits has one value in all classes, and so no standard deviation to divide by")
    own, theirs = (scale * each.masked_fill(constant, 1.0) for each in (own, theirs))
    distance = divergence(student_logits, teacher_logits, own, theirs).distance
    return (theirs.squeeze(1) ** 2 * distance).masked_fill(constant.squeeze(1), 0.0).mean()


class NormalizedTemperature(Strategy):
    """Normalised logits: soft targets in which each sample's logits, of each network, are divided by their spread.

    Knowledge: the class probabilities. One temperature for all samples leaves sure ones hard and makes unsure ones too
    soft; here all are equally soft.

    Loss: ce_weight CE(student, labels) + beta mean of T_t^2 KL(p_t || p_s), p = softmax(z / T), T = scale std(z), z the
    logits, B x classes, std and KL over the classes.

    Cost: one softmax; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: a sample of constant logits, which have no spread, gives 0; the authors divide by 0.
    """

    name = "normkd"
    family = "response"
    paper = Paper(
        title="NormKD: Normalized Logits for Knowledge Distillation",
        authors="Zhihao Chi, Tu Zheng, Hengjia Li, Zheng Yang, Boxi Wu, Binbin Lin, Deng Cai",
        year=2023,
        venue="arXiv 2023",
        id="2308.00520",
        code="https://github.com/gizi1/NormKD",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    scale: float = param(
        2.0,
        "temperature in standard deviations of the logits: higher is softer",
        gt=0.0,
        imagenet=1.0,
        search=(0.5, 4.0),
        log=True,
        source="the authors' configs: the default for CIFAR-100; ImageNet: r34_r18",
    )
    beta: float = param(
        0.9,
        "weight of the soft targets",
        ge=0.0,
        imagenet=0.5,
        search=(0.1, 10.0),
        log=True,
        source="the authors' configs: the default for CIFAR-100; ImageNet: r34_r18",
    )
    ce_weight: float = param(
        0.1,
        "weight of the hard-label loss",
        ge=0.0,
        imagenet=0.5,
        source="the authors' configs: the default for CIFAR-100; ImageNet: r34_r18",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``normkd``."""
        loss = normalized_temperature_loss(student.logits, teacher.logits, self.scale, skip_constant=True)
        return {"normkd": self.beta * loss}
