"""Standardised logits: what other strategies compare has mean 0 and standard deviation 1 in every sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import centred, deviation_of
from kdzoo_zoo.tensors import full_precision

EPSILON = 1e-7
"""Beside the standard deviation, by which the logits are divided."""


def standardize_logits(logits: Tensor) -> Tensor:
    """Logits with mean 0 and standard deviation 1 over the classes, sample by sample.

    Equation, with std by K - 1 for K classes::

        (logits - mean_c logits) / (1e-7 + std_c logits)

    Args:
        logits: B x classes.

    Returns:
        B x classes; a row of equal values gives zeros, without a gradient.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; the deviation
    from centred values. Epsilon 1e-7 beside the deviation.

    Source: Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv 2403.01427.
    Authors' code: https://github.com/sunshangquan/logit-standardization-KD, which is followed here. The paper's
    equation has the deviation times a base temperature in the denominator, and no epsilon: here the temperature is that
    of the loss behind.

    Example:
        >>> import torch
        >>> standardize_logits(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])).round(decimals=3)
        tensor([[-1.,  0.,  1.],
                [ 0.,  0.,  0.]])
    """
    standard: Tensor = _Standardised.apply(full_precision(logits))
    return standard


class _Standardised(torch.autograd.Function):
    """Keeps its result alone for the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        rows = centred(logits)
        deviation = deviation_of(rows)
        scale = (1 / (EPSILON + deviation)).masked_fill_(deviation == 0, 0.0)
        rows.mul_(scale)
        ctx.save_for_backward(rows, deviation, scale)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rows, deviation, scale = ctx.saved_tensors
        (gradient,) = gradients
        slope: Tensor = gradient * rows
        # What changes the deviation alone; 0 / 0 in a constant row.
        share = (slope.sum(dim=1, keepdim=True) / (max(rows.shape[1] - 1, 1) * deviation)).masked_fill_(scale == 0, 0.0)
        torch.mul(rows, -share, out=slope)
        return slope.addcmul_(gradient - gradient.mean(dim=1, keepdim=True), scale)


class StandardizedLogits(Strategy):
    """Logit standardisation, a modifier: other strategies see both networks' logits standardised, sample by sample.

    Knowledge: how the classes stand to each other, and not how large the logits are: a small student need not reach the
    size of its teacher's.

    Loss: none of its own. In soft+ls and the like, the terms of the other strategy are term_weight times what they are
    on (z - mean(z)) / (1e-7 + std(z)), z the logits, B x classes; CE(student, labels) stays on the logits as they are.

    Cost: two passes over the logits; no adapters. Serves every pair whose logits have the same classes, and every
    strategy that compares logits.

    Differs from the paper: nothing; the authors' code adds 1e-7 to the deviation. Their values for CIFAR-100, as flags:
    `--set soft+ls.soft.temperature=2 --set soft+ls.soft.alpha=1 --set soft+ls.ce_weight=0.1` (temperature 3 or 4 for
    some pairs), with the default term_weight. For dkd they multiply alpha and beta by the same 9, at temperature 2.
    """

    name = "ls"
    family = "response"
    paper = Paper(
        title="Logit Standardization in Knowledge Distillation",
        authors="Shangquan Sun, Wenqi Ren, Jingzhi Li, Rui Wang, Xiaochun Cao",
        year=2024,
        venue="CVPR 2024",
        id="2403.01427",
        code="https://github.com/sunshangquan/logit-standardization-KD",
    )
    signals = ("logits",)
    modifies = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True
    symmetric = True

    term_weight: float = param(
        9.0,
        "weight of the terms that see the standardised logits",
        ge=0.0,
        search=(1.0, 20.0),
        log=True,
        source="the authors' scripts for CIFAR-100, and for ImageNet",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def modify(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs]:
        """Both networks' logits, standardised."""
        return (
            Outputs({"logits": standardize_logits(student.logits)}),
            Outputs({"logits": standardize_logits(teacher.logits)}),
        )
