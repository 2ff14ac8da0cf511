"""KD++: soft targets, and a student's embedding that is long and points where the teacher sees the class."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.adapters import BatchNorm1d
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.feature.statistics import class_means
from kdzoo_zoo.response.distributions import labels_of
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.schedules import warm_up
from kdzoo_zoo.tensors import check_same, full_precision

_LEAST = 1e-12


def norm_direction_loss(
    student_embedding: Tensor, teacher_embedding: Tensor, class_means: Tensor, target: Tensor
) -> Tensor:
    """How far the student's embedding falls short, along the direction of its class, of the longer of the two.

    Equation::

        e_y = class_means[y] / max(|class_means[y]|, 1e-12)
        loss = mean over b of 1 - s_b . e_y / max(|s_b|, |t_b|)   with y the label of b

    Args:
        student_embedding: s, B x D, brought to the teacher's width.
        teacher_embedding: t, B x D; only its norms count. Not detached: pass it without gradient.
        class_means: classes x D, the teacher's mean embedding of each class.
        target: y, B, int64.

    Returns:
        A scalar from 0 to 2, averaged over the batch; 0 where each embedding points along its class and is at least as
        long as the teacher's.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in float32 for half-precision embeddings, else in their own, under autocast too. Lengths are
    taken as at least 1e-12.

    Source: Wang, Cheng, Duan, Wang, Feng, Kong, "Improving Knowledge Distillation via Regularizing Feature Norm and
    Direction", arXiv 2305.17007. Authors' code: https://github.com/WangYZ1608/Knowledge-Distillation-via-ND.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]])
        >>> norm_direction_loss(student, teacher, torch.tensor([[0.0, 2.0]]), torch.tensor([0]))  # 1 - 4 / 10
        tensor(0.6000)
    """
    check_same("embeddings", student_embedding, teacher_embedding)
    if class_means.shape[1:] != student_embedding.shape[1:] or target.shape != student_embedding.shape[:1]:
        shapes = f"{tuple(class_means.shape)} and {tuple(target.shape)}"
        raise ValueError(f"class means and labels of the shapes {shapes} do not fit the embeddings")
    student_embedding = full_precision(student_embedding)
    centres = full_precision(class_means)[target]
    lengths = [torch.linalg.vector_norm(full_precision(each), dim=1) for each in (student_embedding, teacher_embedding)]
    longer = torch.maximum(*lengths).clamp(min=_LEAST)
    along = (student_embedding * F.normalize(centres, dim=1, eps=_LEAST)).sum(dim=1)
    return 1 - (along / longer).mean()


class Widening(nn.Module):
    """The authors' BatchNorm, dropout of one half and linear layer: B x student's width -> B x teacher's width.

    Args:
        student: width of the student's embedding.
        teacher: width of the teacher's.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.norm = BatchNorm1d(student)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(student, teacher)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Widen; its precision may differ from the weights' own."""
        x = self.norm(x.to(self.linear.weight.dtype))
        out: Tensor = self.linear(self.dropout(x))
        return out


class NormDirection(Strategy):
    """KD++: soft targets, and an embedding that is as long as the teacher's and points along the class's mean.

    Knowledge: the teacher's soft targets, the length of its embedding, and the direction of its mean embedding of each
    class over the training samples, found before the training.

    Loss: CE(student, labels) + alpha w T^2 KL(p_t(T) || p_s(T)) + beta mean(1 - s . e_y / max(|s|, |t|)), s and t the
    embeddings, B x D, e_y the normalised mean of class y, and w rising from 0 to 1 in the first epochs. Where the
    widths differ, s is the student's embedding through BatchNorm, dropout and a linear layer.

    Cost: one pass of the teacher over the training samples before the training; an adapter between embeddings of
    different widths. Serves every pair.

    Differs from the paper: none known. Samples are not augmented for the means, as in the authors' code. Under mixed
    labels the label is the class with the largest share.
    """

    name = "kdpp"
    family = "feature"
    paper = Paper(
        title="Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
        authors="Yuzhu Wang, Lechao Cheng, Manni Duan, Yongheng Wang, Zunlei Feng, Shu Kong",
        year=2023,
        venue="arXiv",
        id="2305.17007",
        code="https://github.com/WangYZ1608/Knowledge-Distillation-via-ND",
    )
    signals = ("logits", "embedding")
    per_sample = True
    non_negative = True

    alpha: float = param(
        3.5, "weight of the soft targets", source="authors: resnet32x4 -> resnet8x4", ge=0.0, search=(0.5, 10.0)
    )
    beta: float = param(
        2.0, "weight of norm and direction", source="authors: resnet32x4 -> resnet8x4", ge=0.0, search=(0.1, 10.0)
    )
    temperature: float = param(4.0, "softens both networks", source="authors' code", gt=0.0, search=(1.0, 10.0))
    warmup: float = param(
        20 / 240, "share of the training in which alpha rises", source="authors' code: 20 of 240 epochs", ge=0.0, le=1.0
    )

    means: Tensor

    def build(self, setup: Setup) -> None:
        """Make the adapter, and room for the means."""
        check_classes(self.name, setup)
        own, theirs = setup.student.embedding, setup.teacher.embedding
        self.adapter = nn.Identity() if own == theirs else Widening(own, theirs)
        self.register_buffer("means", torch.zeros(setup.num_classes, theirs))

    def survey(self, batches: Iterable[tuple[Outputs, Batch]]) -> None:
        """Find the mean embedding of each class."""
        self.means.copy_(class_means(batches, len(self.means)))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """Two terms, ``soft`` and ``direction``."""
        soft = soft_target_loss(student.logits, teacher.logits, self.temperature)
        own = self.adapter(student.embedding)
        direction = norm_direction_loss(own, teacher.embedding, self.means, labels_of(batch))
        return {"soft": self.alpha * warm_up(batch, self.warmup) * soft, "direction": self.beta * direction}
