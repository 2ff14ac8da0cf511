"""Losses on maps before their activations, on a class direction, and on rotated images."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo.functional import (
    activation_boundary_loss,
    norm_direction_loss,
    partial_l2_loss,
    self_supervised_similarity_loss,
    transformed_view_loss,
)


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


def norm_direction(student_embedding: Tensor, teacher_embedding: Tensor, class_means: Tensor, target: Tensor) -> Tensor:
    """KD++, sample by sample."""
    loss = student_embedding.new_zeros(())
    for s, t, y in zip(student_embedding, teacher_embedding, target, strict=True):
        centre = class_means[y] / class_means[y].norm()
        loss = loss + 1 - torch.dot(s, centre) / torch.max(s.norm(), t.norm())
    return loss / len(target)


def _kept(answers: Tensor, target: Tensor, keep: float) -> Tensor:
    rank = (answers.argsort(dim=1, descending=True, stable=True) == target[:, None]).long().argmax(dim=1)
    wrong = int((rank > 0).sum())
    return rank.argsort(stable=True)[: len(rank) - wrong + int(wrong * keep)]


def transformed_view(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, keep: float
) -> Tensor:
    """SSKD's soft targets on rotations."""
    rows = _kept(teacher_logits, target, keep)
    log_q = F.log_softmax(student_logits[rows] / temperature, dim=1)
    p = F.softmax(teacher_logits[rows] / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean") * temperature**2


def self_supervised_similarity(
    student_augmented: Tensor,
    student_normal: Tensor,
    teacher_normal: Tensor,
    teacher_augmented: Tensor,
    temperature: float = 0.5,
    keep: float = 0.75,
) -> Tensor:
    """SSKD's cosines, as the authors' code expands them."""
    both = ((student_augmented, student_normal), (teacher_augmented, teacher_normal))
    student, teacher = (F.cosine_similarity(a[:, None], n[None], dim=2) for a, n in both)
    rows = _kept(teacher, torch.arange(len(student)) // 3, keep)
    log_q, p = F.log_softmax(student[rows] / temperature, dim=1), F.softmax(teacher[rows] / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="batchmean") * temperature**2


def _embeddings() -> dict[str, Any]:
    return {
        "student_embedding": torch.randn(64, 512, requires_grad=True),
        "teacher_embedding": torch.randn(64, 512),
        "class_means": torch.randn(1000, 512),
        "target": torch.randint(1000, (64,)),
    }


def _logits() -> dict[str, Any]:
    return {
        "student_logits": torch.randn(256, 1000, requires_grad=True),
        "teacher_logits": torch.randn(256, 1000),
        "target": torch.randint(1000, (256,)),
        "temperature": 4.0,
        "keep": 1.0,
    }


def _rotated() -> dict[str, Any]:
    return {
        "student_augmented": torch.randn(192, 512, requires_grad=True),
        "student_normal": torch.randn(64, 512, requires_grad=True),
        "teacher_normal": torch.randn(64, 512),
        "teacher_augmented": torch.randn(192, 512),
    }


FORMS: list[Form] = [
    Form("ofd", "ofd", partial_l2_loss, partial_l2, _with_margin),
    Form("ab", "ab", activation_boundary_loss, activation_boundary, partial(_maps, margin=1.0)),
    Form("kdpp", "kdpp", norm_direction_loss, norm_direction, _embeddings),
    Form("sskd transformed", "sskd", transformed_view_loss, transformed_view, _logits),
    Form("sskd similarity", "sskd", self_supervised_similarity_loss, self_supervised_similarity, _rotated),
]
