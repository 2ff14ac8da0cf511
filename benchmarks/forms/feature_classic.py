"""The losses on maps of at, fitnets, nst, vid, fsp and ft, beside their equations in plain operations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo import functional

SHAPE = (64, 128, 16, 16)
DEEP = (64, 256, 8, 8)


def maps() -> dict[str, Any]:
    """Of a student and a teacher."""
    return {"student_map": torch.randn(SHAPE, requires_grad=True), "teacher_map": torch.randn(SHAPE)}


def deep_maps() -> dict[str, Any]:
    """Of a deep stage of a student and a teacher."""
    return {"student_map": torch.randn(DEEP, requires_grad=True), "teacher_map": torch.randn(DEEP)}


def predictions() -> dict[str, Any]:
    """A predicted map, the teacher's, and a scale of each channel."""
    return {
        "student_mean": torch.randn(SHAPE, requires_grad=True),
        "teacher_map": torch.randn(SHAPE),
        "log_scale": torch.full(SHAPE[1:2], 5.0).requires_grad_(),
    }


def two_stages() -> dict[str, Any]:
    """Maps of two consecutive stages of a student and a teacher."""
    return {
        "student_bottom": torch.randn(SHAPE, requires_grad=True),
        "student_top": torch.randn(DEEP, requires_grad=True),
        "teacher_bottom": torch.randn(SHAPE),
        "teacher_top": torch.randn(DEEP),
    }


def factors() -> dict[str, Any]:
    """Of a student and a teacher."""
    return {"student_factor": torch.randn(SHAPE, requires_grad=True), "teacher_factor": torch.randn(SHAPE)}


def attention(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """``attention_transfer_loss`` at its power of 2."""
    student, teacher = (F.normalize(x.pow(2).mean(dim=1).flatten(1), dim=1) for x in (student_map, teacher_map))
    return (student - teacher).pow(2).mean()


def hint(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """``hint_loss``."""
    return (student_map - teacher_map).pow(2).mean()


def selectivity(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """``neuron_selectivity_loss``."""
    student, teacher = (F.normalize(x.flatten(2), dim=2) for x in (student_map, teacher_map))

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return torch.bmm(first, second.transpose(1, 2)).pow(2).mean()

    return kernel(teacher, teacher) + kernel(student, student) - 2 * kernel(student, teacher)


def likelihood(student_mean: Tensor, teacher_map: Tensor, log_scale: Tensor, eps: float = 1e-5) -> Tensor:
    """``variational_information_loss``."""
    variance = (F.softplus(log_scale) + eps)[None, :, None, None]
    return (0.5 * ((student_mean - teacher_map).pow(2) / variance + torch.log(variance))).mean()


def flows(student_bottom: Tensor, student_top: Tensor, teacher_bottom: Tensor, teacher_top: Tensor) -> Tensor:
    """``flow_of_solution_loss``."""

    def matrix(bottom: Tensor, top: Tensor) -> Tensor:
        bottom = F.adaptive_avg_pool2d(bottom, (top.shape[2], top.shape[3]))
        return torch.bmm(top.flatten(2), bottom.flatten(2).transpose(1, 2)) / top[0, 0].numel()

    return (matrix(student_bottom, student_top) - matrix(teacher_bottom, teacher_top)).pow(2).mean()


def directions(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """``factor_transfer_loss``."""
    student, teacher = (F.normalize(x.flatten(1), dim=1) for x in (student_factor, teacher_factor))
    return (student - teacher).abs().mean()


FORMS = [
    Form("at", "at", functional.attention_transfer_loss, attention, maps),
    Form("fitnets", "fitnets", functional.hint_loss, hint, maps),
    Form("nst", "nst", functional.neuron_selectivity_loss, selectivity, maps),
    Form("nst deep", "nst", functional.neuron_selectivity_loss, selectivity, deep_maps),
    Form("vid", "vid", functional.variational_information_loss, likelihood, predictions),
    Form("fsp", "fsp", functional.flow_of_solution_loss, flows, two_stages),
    Form("ft", "ft", functional.factor_transfer_loss, directions, factors),
]
