"""VkD: the student's embedding, through an orthogonal projection, matches the teacher's normalised one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.tensors import check_same, full_precision


def reduce_normalized(teacher_embedding: Tensor) -> Tensor:
    """What :func:`reduced_projection_loss` needs of the teacher: the embedding after layer norm, B x D."""
    wide = full_precision(teacher_embedding)
    return F.layer_norm(wide, wide.shape[1:])


def reduced_projection_loss(student_embedding: Tensor, normalized: Tensor) -> Tensor:
    """:func:`orthogonal_projection_loss` on what :func:`reduce_normalized` gives of the teacher."""
    check_same("embeddings", student_embedding, normalized)
    return F.smooth_l1_loss(full_precision(student_embedding), full_precision(normalized))


def orthogonal_projection_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Difference of the student's projected embedding and the teacher's normalised one.

    Equation, with s and t the embeddings::

        n = (t - mean of t) / sqrt(variance of t + 1e-5), both over a sample's dimensions, the variance biased
        loss = mean over b, d of smooth_l1(s, n)

    with smooth_l1(a, b) = (a - b)^2 / 2 where |a - b| < 1, else |a - b| - 1/2.

    Args:
        student_embedding: B x D, already through an orthogonal projection; see :class:`OrthogonalProjection`.
        teacher_embedding: B x D. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all elements.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. Epsilon 1e-5
    on the variance.

    Source: Miles, Elezi, Deng, "VkD: Improving Knowledge Distillation using Orthogonal Projections", CVPR 2024, arXiv
    2403.06213. Authors' code: https://github.com/roymiles/VkD (``engine.py``).

    Example:
        The teacher's embedding is 1, -1 after normalisation:

        >>> orthogonal_projection_loss(torch.zeros(1, 2), torch.tensor([[500.0, 300.0]]))
        tensor(0.5000)
    """
    return reduced_projection_loss(student_embedding, reduce_normalized(teacher_embedding))


class OrthogonalProjection(nn.Module):
    """A linear layer without bias whose weight has orthonormal columns, or rows where it has fewer of them.

    It keeps the geometry of what it projects: all that is learned about the teacher must be learned by the student. The
    orthonormal matrix is the Q of a QR decomposition of what is trained, with a positive diagonal of R. It depends on
    the directions of the trained columns alone, so weight decay leaves it as it is.

    Args:
        student_width: of the input.
        teacher_width: of the output.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.widens = teacher_width >= student_width
        shape = (teacher_width, student_width) if self.widens else (student_width, teacher_width)
        self.tall = nn.Parameter(nn.init.orthogonal_(torch.empty(shape)))

    def weight(self) -> Tensor:
        """The orthonormal matrix, teacher_width x student_width, in full precision."""
        q, r = torch.linalg.qr(full_precision(self.tall))
        orthonormal: Tensor = q * r.diagonal().sign()
        return orthonormal if self.widens else orthonormal.T

    def forward(self, x: Tensor) -> Tensor:
        """Project an embedding, B x student_width -> B x teacher_width."""
        # No half precision: torch decomposes no matrix in it, and a rounded one is not orthonormal.
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight()
            return F.linear(x.to(weight.dtype), weight)


class OrthogonalProjections(Strategy):
    """VkD: the student's embedding, through an orthogonal projection, matches the teacher's after layer norm.

    Knowledge: the pooled features. An orthogonal projection changes no distances and angles of the student's features,
    so it cannot learn in the student's place; layer norm gives the teacher's features one scale.

    Loss: CE(student, labels) + beta smooth L1(P s, layer norm(t)), the mean over elements, + soft KL(p_t || p_s) at
    temperature 1, s and t the embeddings, P' P = 1 (or P P' = 1 where the teacher is narrower). P is trained with the
    student and discarded after training.

    Cost: one projection of student width x teacher width, made orthogonal at every step by a QR decomposition. Serves
    every pair whose logits have the same classes; with soft = 0 every pair.

    Differs from the paper: the student's embedding is what its classifier gets, where the authors take the mean of the
    patch tokens; the soft targets teach the student's one head, where their students have a second one for the
    distillation token. They make the projection orthogonal by torch's parametrization, whose matrix of another shape
    than square is 0 once weight decay has changed what it is made from (torch 2.14). They give no values for CIFAR.
    """

    name = "vkd"
    family = "feature"
    paper = Paper(
        title="VkD: Improving Knowledge Distillation using Orthogonal Projections",
        authors="Roy Miles, Ismail Elezi, Jiankang Deng",
        year=2024,
        venue="CVPR 2024",
        id="2403.06213",
        code="https://github.com/roymiles/VkD",
    )
    signals = ("logits", "embedding")
    per_sample = True
    non_negative = True

    beta: float = param(
        1.0,
        "weight of the projected features",
        ge=0.0,
        source="the authors' code, RegNetY-160 -> DeiT on ImageNet",
        search=(0.1, 10.0),
        log=True,
    )
    soft: float = param(
        1.0,
        "weight of the soft targets at temperature 1; 0 leaves them out",
        ge=0.0,
        source="the authors' code, RegNetY-160 -> DeiT on ImageNet",
        search=(0.1, 4.0),
        log=True,
    )

    def build(self, setup: Setup) -> None:
        """Make the projection."""
        if self.soft:
            check_classes(self.name, setup, "set vkd.soft=0")
        if setup.teacher.embedding < 2:
            raise PairError("vkd normalises the teacher's features over their dimensions, and they have width 1")
        self.project = OrthogonalProjection(setup.student.embedding, setup.teacher.embedding)

    def reduce(self, teacher: Outputs) -> Outputs:
        """The normalised embedding, and the logits."""
        return Outputs({"normalized": reduce_normalized(teacher.embedding), "logits": teacher.logits})

    def reduction(self) -> dict[str, str]:
        """See :meth:`kdzoo.Strategy.reduction`."""
        return {"normalized": "embedding after layer norm", "logits": "logits"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms ``projected`` and ``soft``."""
        projected = self.project(student.embedding)
        terms = {"projected": self.beta * reduced_projection_loss(projected, teacher.values["normalized"])}
        if self.soft:
            terms["soft"] = self.soft * soft_target_loss(student.logits, teacher.logits, 1.0)
        return terms
