"""Losses of recent feature strategies beside their equations as the papers write them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo import functional

BATCH, CLASSES, WIDTH = 256, 1000, 512


def _logits() -> dict[str, Any]:
    student, teacher = torch.randn(BATCH, CLASSES), torch.randn(BATCH, CLASSES)
    return {
        "student_logits": student.requires_grad_(),
        "teacher_logits": teacher,
        "target": torch.randint(CLASSES, (BATCH,)),
        "eps": 1.5,
        "temperature": 1.0,
    }


def _maps() -> dict[str, Any]:
    student, teacher = torch.randn(64, 128, 16, 16), torch.randn(64, 128, 16, 16)
    return {"student_map": student.requires_grad_(), "teacher_map": teacher, "mean_weight": 4.0}


def _cells() -> dict[str, Any]:
    return _maps() | {"grid": 4}


def _embeddings() -> dict[str, Any]:
    student, teacher = torch.randn(64, WIDTH), torch.randn(64, WIDTH)
    return {"student_embedding": student.requires_grad_(), "teacher_embedding": teacher}


def _correlated() -> dict[str, Any]:
    return _embeddings() | {"alpha": 1.01}


def one_for_all(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, eps: float, temperature: float
) -> Tensor:
    """Hao et al. 2023, equation 5."""
    student = F.softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    label = F.one_hot(target, student_logits.shape[1])
    return -(((teacher + label) ** eps - label) * student.log()).sum(dim=1).mean()


def wasserstein(
    student_map: Tensor, teacher_map: Tensor, mean_weight: float, eps: float = 1e-5, grid: int = 1
) -> Tensor:
    """Lv et al. 2024, equation 8, cell by cell."""
    height, width = student_map.shape[2] // grid, student_map.shape[3] // grid
    total = student_map.new_zeros(())
    for row in range(grid):
        for column in range(grid):
            rows, columns = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
            student, teacher = student_map[:, :, rows, columns], teacher_map[:, :, rows, columns]
            means = student.mean(dim=(2, 3)) - teacher.mean(dim=(2, 3))
            deviations = (student.var(dim=(2, 3)) + eps).sqrt() - (teacher.var(dim=(2, 3)) + eps).sqrt()
            total = total + mean_weight * (means**2).sum() + (deviations**2).sum()
    return total / (len(student_map) * grid**2)


def log_power(student_embedding: Tensor, teacher_embedding: Tensor, power: float = 4.0) -> Tensor:
    """Miles and Mikolajczyk 2024: batch normalisation, then the logarithm of a sum of powers."""

    def normalized(x: Tensor) -> Tensor:
        return (x - x.mean(dim=0)) / (x.var(dim=0, correction=0) + 1e-4).sqrt()

    return ((normalized(student_embedding) - normalized(teacher_embedding)).abs() ** power).sum().log()


def correlation(student_embedding: Tensor, teacher_embedding: Tensor, alpha: float) -> Tensor:
    """Miles et al. 2022, equation 7."""

    def standard(x: Tensor) -> Tensor:
        return (x - x.mean(dim=0)) / x.std(dim=0)

    correlated = (standard(student_embedding) * standard(teacher_embedding)).mean(dim=0)
    return (((correlated - 1) ** 2) ** alpha).sum().log2()


def mutual(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Miles et al. 2022, equation 10."""
    student, teacher = F.normalize(student_embedding), F.normalize(teacher_embedding)
    own, theirs = student @ student.T, teacher @ teacher.T
    joint = own * theirs
    own, joint = own / own.trace(), joint / joint.trace()
    return (own**2 - joint**2).sum()


def projected(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Miles et al. 2024: layer norm of the teacher, then smooth L1."""
    mean = teacher_embedding.mean(dim=1, keepdim=True)
    variance = teacher_embedding.var(dim=1, keepdim=True, correction=0)
    difference = (student_embedding - (teacher_embedding - mean) / (variance + 1e-5).sqrt()).abs()
    return torch.where(difference < 1, difference**2 / 2, difference - 0.5).mean()


FORMS: list[Form] = [
    Form("ofa", "ofa", functional.one_for_all_loss, one_for_all, _logits),
    Form("wkd_f", "wkd_f", functional.wasserstein_feature_loss, wasserstein, _maps),
    Form("wkd_f cells", "wkd_f", functional.wasserstein_feature_loss, wasserstein, _cells),
    Form("srd", "srd", functional.log_power_loss, log_power, _embeddings),
    Form("itrd correlation", "itrd", functional.information_correlation_loss, correlation, _correlated),
    Form("itrd mutual", "itrd", functional.information_mutual_loss, mutual, _embeddings),
    Form("vkd", "vkd", functional.orthogonal_projection_loss, projected, _embeddings),
]
