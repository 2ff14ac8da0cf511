"""EA-KD: soft targets in which samples count the more, the less sure both networks are of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence
from kdzoo_zoo.tensors import check_same, full_precision

_SOURCE = "mdistiller's values, which the authors keep; ImageNet: their r34_r18 config"


def entropy_adaptive_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float,
    entropy_temperature: float = 3.0,
    bound: float | None = None,
) -> Tensor:
    """Soft targets, each sample weighted by the entropies of the two networks' answers.

    Equation, with T = ``temperature``, p_x(T) = softmax(x_logits / T), x = s, t, K classes, and bound = log K::

        H_x = - sum_c p_x log (p_x + 1e-10) at the entropy temperature
        w = H_t (1 + H_s / bound) / 2
        loss = T^2 mean_b [w KL(p_t(T) || p_s(T))]

    Args:
        student_logits: B x classes, at least two.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        temperature: above 0, of the divergence.
        entropy_temperature: above 0, of the entropies.
        bound: what the student's entropy is divided by; by default its largest value, log K.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where the logits are equal. The weights are
        constants and have no gradient.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. Epsilon 1e-10
    inside the logarithm of the entropies alone.

    Source: Su, Tseng, Pu, Zhao, Yang, Chen, Lee, "EA-KD: Entropy-based Adaptive Knowledge Distillation", ICCV 2025,
    arXiv 2311.13621. Authors' code: https://github.com/cpsu00/EA-KD. For CIFAR-100 the code divides the student's
    entropy by 100, the number of classes, and not by its logarithm; for ImageNet by the logarithm, as the paper has it.

    Example:
        The teacher gives 3/4 to one of two classes, an entropy of 0.562, and the student, with 1/2, has the largest:

        >>> import torch
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
        >>> entropy_adaptive_loss(student, teacher, temperature=1.0, entropy_temperature=1.0)
        tensor(0.0736)
    """
    check_same("logits", student_logits, teacher_logits)
    with torch.no_grad():
        own, known = (_entropy(logits, entropy_temperature) for logits in (student_logits, teacher_logits))
        weight = known * (1 + own / (math.log(student_logits.shape[1]) if bound is None else bound)) / 2
    apart = divergence(student_logits, teacher_logits, temperature, temperature).distance
    return temperature**2 * (weight * apart).mean()


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    p = (full_precision(logits) / temperature).softmax(dim=1)
    return -(p + 1e-10).log_().mul_(p).sum(dim=1)


class EntropyAdaptiveKD(Strategy):
    """EA-KD: soft targets that count more for samples on which teacher and student are undecided.

    Knowledge: the softened class probabilities, above all of samples that say much of how classes resemble each other.

    Loss: ce_weight CE(student, labels) + beta T^2 mean[w KL(p_t || p_s)], w = H_t (1 + H_s / log K) / 2 without
    gradient, H the entropies of the answers at a temperature of their own, logits B x K.

    Cost: two softmaxes of each network; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing with ``divisor`` = log K; with ``divisor`` = K the student's entropy is divided by
    the number of classes, as in the authors' code for CIFAR-100.
    """

    name = "eakd"
    family = "response"
    paper = Paper(
        title="EA-KD: Entropy-based Adaptive Knowledge Distillation",
        authors="Chi-Ping Su, Ching-Hsun Tseng, Bin Pu, Lei Zhao, Jiewen Yang, Zhuangzhuang Chen, Shin-Jye Lee",
        year=2025,
        venue="ICCV 2025",
        id="2311.13621",
        code="https://github.com/cpsu00/EA-KD",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    beta: float = param(
        0.9, "weight of the soft targets", ge=0.0, imagenet=0.5, search=(0.1, 4.0), log=True, source=_SOURCE
    )
    ce_weight: float = param(0.1, "weight of the hard labels", ge=0.0, imagenet=1.0, search=(0.1, 1.0), source=_SOURCE)
    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        imagenet=1.0,
        search=(1.0, 8.0),
        log=True,
        source=_SOURCE,
    )
    entropy_temperature: float = param(
        3.0, "T of the entropies", gt=0.0, imagenet=2.0, search=(1.0, 8.0), log=True, source=_SOURCE
    )
    divisor: str = param("log K", "what the student's entropy is divided by", choices=("log K", "K"))

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)
        self.bound = float(setup.num_classes) if self.divisor == "K" else None

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``soft``."""
        loss = entropy_adaptive_loss(
            student.logits, teacher.logits, self.temperature, self.entropy_temperature, self.bound
        )
        return {"soft": self.beta * loss}
