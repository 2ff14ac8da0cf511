"""The losses on feature maps, beside the equations of their papers in plain tensor operations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo import functional


def _map(channels: int, size: int, samples: int = 64, *, trained: bool = True) -> Tensor:
    return torch.randn(samples, channels, size, size).relu_().requires_grad_(trained)


def _levels() -> dict[str, Any]:
    shapes = ((256, 1), (256, 8), (128, 16), (64, 32))
    return {
        "student_maps": [_map(*shape) for shape in shapes],
        "teacher_maps": [_map(*shape, trained=False) for shape in shapes],
    }


def _hierarchical_context(student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
    loss = torch.zeros(())
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        level, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
        for size in (4, 2, 1):
            if size >= student.shape[2]:
                continue
            weight /= 2
            own, theirs = (F.adaptive_avg_pool2d(fmap, (size, size)) for fmap in (student, teacher))
            level = level + weight * F.mse_loss(own, theirs)
            weights += weight
        loss = loss + level / weights
    return loss


def _inter_channel(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    batch, channels = student_map.shape[:2]
    grams = []
    for fmap in (student_map, teacher_map):
        rows = fmap.view(batch, channels, -1)
        grams.append(F.normalize(torch.bmm(rows, rows.transpose(1, 2)), dim=2))
    return ((grams[0] - grams[1]) ** 2).sum() / (channels * batch**2)


def _attention_feature(student_map: Tensor, teacher_map: Tensor, channel_attention: Tensor) -> Tensor:
    features: list[Tensor] = []
    for fmap in (student_map, teacher_map):
        rows = fmap.flatten(2)
        features.append(rows / (rows.norm(dim=2, keepdim=True) + 1e-6))
    distance: Tensor = ((features[0] - features[1]) ** 2).mean(dim=2)
    return (channel_attention * distance).sum(dim=1).mean()


def _masked_generation(generated_map: Tensor, teacher_map: Tensor) -> Tensor:
    return ((generated_map - teacher_map) ** 2).sum(dim=(1, 2, 3)).mean()


def _reused_classifier(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    if student_map.shape[2] > teacher_map.shape[2]:
        student_map = F.adaptive_avg_pool2d(student_map, teacher_map.shape[2])
    else:
        teacher_map = F.adaptive_avg_pool2d(teacher_map, student_map.shape[2])
    return F.mse_loss(student_map, teacher_map)


def _softmax_regression(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    classifier_weight: Tensor,
    classifier_bias: Tensor,
    regression_weight: float,
) -> Tensor:
    features = F.mse_loss(student_embedding, teacher_embedding)
    own, theirs = (
        F.linear(each, classifier_weight, classifier_bias) for each in (student_embedding, teacher_embedding)
    )
    return features + regression_weight * F.mse_loss(own, theirs)


def _class_attention(student_map: Tensor, teacher_map: Tensor, size: int, normalize: bool) -> Tensor:
    own, theirs = (F.adaptive_avg_pool2d(each, (size, size)) for each in (student_map, teacher_map))
    if normalize:
        own, theirs = (each / each.norm(dim=(2, 3), keepdim=True).clamp(min=1e-12) for each in (own, theirs))
    return F.mse_loss(own, theirs)


def _many_to_one(student_map: Tensor, teacher_map: Tensor, ratio: int) -> Tensor:
    factor = teacher_map.shape[2] // student_map.shape[2]
    if factor > 1:
        teacher_map = F.max_pool2d(teacher_map, factor, factor)
    return ratio * F.mse_loss(student_map, teacher_map.repeat(1, ratio, 1, 1))


def _function_consistency(student_maps: list[Tensor], teacher_map: Tensor, final: bool) -> Tensor:
    loss = torch.zeros(())
    for student in student_maps:
        loss = loss + F.mse_loss(student, teacher_map)
        if final:
            loss = loss + F.mse_loss(F.relu(student).mean((2, 3)), F.relu(teacher_map).mean((2, 3)))
    return loss


def _embeddings() -> dict[str, Any]:
    return {
        "student_embedding": torch.randn(64, 512).requires_grad_(),
        "teacher_embedding": torch.randn(64, 512),
        "classifier_weight": torch.randn(1000, 512) / 512**0.5,
        "classifier_bias": torch.randn(1000),
        "regression_weight": 1.0,
    }


FORMS: list[Form] = [
    Form("reviewkd", "reviewkd", functional.hierarchical_context_loss, _hierarchical_context, _levels),
    Form(
        "ickd",
        "ickd",
        functional.inter_channel_loss,
        _inter_channel,
        lambda: {"student_map": _map(512, 7), "teacher_map": _map(512, 7, trained=False)},
    ),
    Form(
        "afd",
        "afd",
        functional.attention_feature_loss,
        _attention_feature,
        lambda: {
            "student_map": _map(128, 16),
            "teacher_map": _map(128, 16, trained=False),
            "channel_attention": torch.randn(64, 128).softmax(dim=1).requires_grad_(),
        },
    ),
    Form(
        "mgd",
        "mgd",
        functional.masked_generation_loss,
        _masked_generation,
        lambda: {"generated_map": _map(128, 16), "teacher_map": _map(128, 16, trained=False)},
    ),
    Form(
        "simkd",
        "simkd",
        functional.reused_classifier_loss,
        _reused_classifier,
        lambda: {"student_map": _map(256, 8), "teacher_map": _map(256, 16, trained=False)},
    ),
    Form("srrl", "srrl", functional.softmax_regression_loss, _softmax_regression, _embeddings),
    Form(
        "catkd",
        "catkd",
        functional.class_attention_loss,
        _class_attention,
        lambda: {
            "student_map": _map(100, 8),
            "teacher_map": _map(100, 8, trained=False),
            "size": 2,
            "normalize": True,
        },
    ),
    Form(
        "norm",
        "norm",
        functional.many_to_one_loss,
        _many_to_one,
        lambda: {"student_map": _map(8 * 256, 8), "teacher_map": _map(256, 8, trained=False), "ratio": 8},
    ),
    Form(
        "fcfd",
        "fcfd",
        functional.function_consistency_loss,
        _function_consistency,
        lambda: {
            "student_maps": [_map(128, 8) for _ in range(3)],
            "teacher_map": _map(128, 8, trained=False),
            "final": True,
        },
    ),
]
