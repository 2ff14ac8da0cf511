"""The losses on relations between samples, and the contrastive ones, beside their equations in plain operations."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from forms import Form
from kdzoo_zoo import functional

SAMPLES, WIDTH, NEGATIVES = 50_000, 128, 16_384
"""Of the contrastive loss: those of CIFAR-100 in the authors' code."""


def maps() -> dict[str, Any]:
    """Of a student and a teacher."""
    return {
        "student_map": torch.randn(64, 128, 16, 16, requires_grad=True),
        "teacher_map": torch.randn(64, 128, 16, 16),
    }


def embeddings() -> dict[str, Any]:
    """Of a student and a teacher."""
    return {"student_embedding": torch.randn(64, 512, requires_grad=True), "teacher_embedding": torch.randn(64, 512)}


def trained_embeddings() -> dict[str, Any]:
    """Of two networks whose embeddings are both trained."""
    return {
        "student_embedding": torch.randn(64, WIDTH, requires_grad=True),
        "teacher_embedding": torch.randn(64, WIDTH, requires_grad=True),
    }


def edges() -> dict[str, Any]:
    """Maps of a student and a teacher, under the names of their vertices."""
    student, teacher = maps().values()
    return {"student": student, "teacher": teacher}


def two_stages() -> dict[str, Any]:
    """Maps of two consecutive stages of a student and a teacher."""
    return {
        "student_bottom": torch.randn(64, 128, 16, 16, requires_grad=True),
        "student_top": torch.randn(64, 256, 8, 8, requires_grad=True),
        "teacher_bottom": torch.randn(64, 128, 16, 16),
        "teacher_top": torch.randn(64, 256, 8, 8),
    }


def contrast() -> dict[str, Any]:
    """Unit embeddings, memories as they start, and the rows drawn for each sample."""
    bound = math.sqrt(3 / WIDTH)
    found: dict[str, Any] = {
        f"{network}_embedding": F.normalize(torch.randn(64, WIDTH), dim=1).requires_grad_()
        for network in ("student", "teacher")
    }
    for network in ("student", "teacher"):
        found[f"{network}_memory"] = torch.empty(SAMPLES, WIDTH).uniform_(-bound, bound)
    index = torch.randint(SAMPLES, (64, NEGATIVES + 1))
    return found | {"index": index, "temperature": 0.07, "student_normalizer": 1e5, "teacher_normalizer": 1e5}


def similarity(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """``similarity_preserving_loss``."""

    def rows(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return F.normalize(flat @ flat.T, dim=1)

    return (rows(student_map) - rows(teacher_map)).pow(2).sum() / len(student_map) ** 2


def probabilities(student_embedding: Tensor, teacher_embedding: Tensor, eps: float = 1e-7) -> Tensor:
    """``probabilistic_transfer_loss``."""

    def near(x: Tensor) -> Tensor:
        unit = x / (x.pow(2).sum(dim=1, keepdim=True).sqrt() + eps)
        kernel = (unit @ unit.T + 1) / 2
        return kernel / kernel.sum(dim=1, keepdim=True)

    q, p = near(student_embedding), near(teacher_embedding)
    return (p * torch.log((p + eps) / (q + eps))).mean()


def neighbours(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """``correlation_congruence_loss``."""
    apart = (student_embedding - teacher_embedding).abs()
    return (apart[:-1] * apart[1:]).sum(dim=1).mean()


def kernels(student_embedding: Tensor, teacher_embedding: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """``correlation_congruence_kernel_loss``."""

    def kernel(x: Tensor) -> Tensor:
        unit = F.normalize(x, dim=1)
        cosine = unit @ unit.T
        terms = [(2 * gamma) ** p / math.factorial(p) * cosine.pow(p) for p in range(order + 1)]
        return math.exp(-2 * gamma) * torch.stack(terms).sum(dim=0)

    return F.mse_loss(kernel(student_embedding), kernel(teacher_embedding))


def _relative_distances(x: Tensor) -> Tensor:
    """B x B, each over the mean of those that are not 0."""
    squares = x.pow(2).sum(dim=1)
    apart = (squares[:, None] + squares[None, :] - 2 * x @ x.T).clamp(min=1e-12).sqrt()
    apart = apart * (1 - torch.eye(len(x)))
    return apart / apart[apart > 0].mean()


def relational_distances(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """``relational_distance_loss``."""
    return F.smooth_l1_loss(_relative_distances(student_embedding), _relative_distances(teacher_embedding))


def relational_angles(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """``relational_angle_loss``, by the vectors between all samples, B x B x D."""

    def cosines(x: Tensor) -> Tensor:
        vectors = F.normalize(x[None, :] - x[:, None], dim=2)
        return torch.bmm(vectors, vectors.transpose(1, 2))

    return F.smooth_l1_loss(cosines(student_embedding), cosines(teacher_embedding))


def distances(student: Tensor, teacher: Tensor) -> Tensor:
    """``instance_edge_loss``."""

    def matrix(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        squares = flat.pow(2).sum(dim=1)
        apart = (squares[:, None] + squares[None, :] - 2 * flat @ flat.T).clamp(min=0)
        return apart / apart.max()

    return F.mse_loss(matrix(student), matrix(teacher))


def transformations(student_bottom: Tensor, student_top: Tensor, teacher_bottom: Tensor, teacher_top: Tensor) -> Tensor:
    """``instance_transformation_loss``."""

    def moved(bottom: Tensor, top: Tensor) -> Tensor:
        bottom = F.adaptive_avg_pool2d(bottom, (top.shape[2], top.shape[3]))
        top = (top[:, 0::2] + top[:, 1::2]) / 2
        apart = (bottom.flatten(1) - top.flatten(1)).pow(2).sum(dim=1)
        return apart / apart.max()

    return F.mse_loss(moved(student_bottom, student_top), moved(teacher_bottom, teacher_top))


def noise_contrast(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_memory: Tensor,
    teacher_memory: Tensor,
    index: Tensor,
    temperature: float,
    student_normalizer: float,
    teacher_normalizer: float,
    eps: float = 1e-7,
) -> Tensor:
    """``contrastive_memory_loss``."""
    noise = (index.shape[1] - 1) / len(student_memory)

    def side(embedding: Tensor, memory: Tensor, normalizer: float) -> Tensor:
        scores = torch.bmm(memory[index], embedding[:, :, None]).squeeze(2)
        found = torch.exp(scores / temperature) / normalizer
        positive = torch.log(found[:, 0] / (found[:, 0] + noise + eps))
        negative = torch.log(noise / (found[:, 1:] + noise + eps))
        return -(positive.sum() + negative.sum()) / len(embedding)

    ours = side(student_embedding, teacher_memory, student_normalizer)
    return ours + side(teacher_embedding, student_memory, teacher_normalizer)


FORMS = [
    Form("rkd distance", "rkd", functional.relational_distance_loss, relational_distances, embeddings),
    Form("rkd angle", "rkd", functional.relational_angle_loss, relational_angles, embeddings),
    Form("sp", "sp", functional.similarity_preserving_loss, similarity, maps),
    Form("pkt", "pkt", functional.probabilistic_transfer_loss, probabilities, embeddings),
    Form("cc", "cc", functional.correlation_congruence_loss, neighbours, trained_embeddings),
    Form("cc kernel", "cc", functional.correlation_congruence_kernel_loss, kernels, embeddings),
    Form("irg edge", "irg", functional.instance_edge_loss, distances, edges),
    Form("irg transformation", "irg", functional.instance_transformation_loss, transformations, two_stages),
    Form("crd", "crd", functional.contrastive_memory_loss, noise_contrast, contrast),
]
