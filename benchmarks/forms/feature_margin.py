"""Losses on maps before their activations."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.forms import Form
from kdzoo_zoo.functional import activation_boundary_loss, partial_l2_loss


def partial_l2(student_map: Tensor, teacher_map: Tensor, margin: Tensor) -> Tensor:
    """OFD, as it is written."""
    target = torch.max(teacher_map, margin)
    counts = ((student_map > target) | (teacher_map > 0)).float()
    return (counts * (student_map - target) ** 2).sum() / len(student_map)


def activation_boundary(student_map: Tensor, teacher_map: Tensor, margin: float) -> Tensor:
    """AB, as it is written."""
    inactive = (student_map + margin) ** 2 * ((student_map > -margin) & (teacher_map <= 0)).float()
    active = (student_map - margin) ** 2 * ((student_map <= margin) & (teacher_map > 0)).float()
    return (inactive + active).sum() / len(student_map)


def _maps(**more: Any) -> dict[str, Any]:
    shape = (64, 128, 16, 16)
    return {"student_map": torch.randn(shape, requires_grad=True), "teacher_map": torch.randn(shape), **more}


def _with_margin() -> dict[str, Any]:
    return _maps(margin=-torch.rand(1, 128, 1, 1) - 0.1)


FORMS: list[Form] = [
    Form("ofd", partial_l2_loss, partial_l2, _with_margin),
    Form("ab", activation_boundary_loss, activation_boundary, partial(_maps, margin=1.0)),
]
