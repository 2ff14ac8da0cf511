"""SSKD: what a self-supervised task on rotated images shows of the teacher."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, UsageError, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence, labels_of
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.tensors import check_same, full_precision


@lru_cache(maxsize=8)
def _limits(rows: int, keep: float) -> Tensor:
    """How many of 0, 1, ... ``rows`` wrong rows are kept."""
    return torch.tensor([int(wrong * keep) for wrong in range(rows + 1)])


def kept_rows(answers: Tensor, target: Tensor, keep: float) -> Tensor:
    """The rows in which the right answer stands first, and of the others those in which it stands highest.

    Args:
        answers: R x N.
        target: R, int64, the right answer of each row.
        keep: share of the wrong rows that are kept, rounded down; of equal ranks, the earlier rows.

    Returns:
        R, bool.
    """
    right = answers.gather(1, target[:, None])
    # Of equal answers the first one stands higher.
    before = torch.arange(answers.shape[1], device=answers.device) < target[:, None]
    rank = ((answers > right) | ((answers == right) & before)).sum(dim=1)
    wrong = (rank > 0).sum()
    most = len(rank) - wrong + _limits(len(rank), keep).to(answers.device)[wrong]
    place = torch.empty_like(rank)
    place[rank.argsort(stable=True)] = torch.arange(len(rank), device=answers.device)
    return place < most


def _kept_divergence(student: Tensor, teacher: Tensor, kept: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over the kept rows of KL(softmax(t / T) || softmax(s / T)); 0 where none is kept."""
    rows = divergence(student, teacher, temperature, temperature).distance
    return temperature**2 * (rows * kept).sum() / kept.sum().clamp(min=1)


def transformed_view_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float = 4.0, keep: float = 1.0
) -> Tensor:
    """Soft targets on transformed images, where the teacher does well enough on them.

    Equation::

        kept = rows in which the teacher's largest logit is the label's, and of the n others the int(n keep) in which
               the label's stands highest
        loss = T^2 mean over kept rows of KL(softmax(t / T) || softmax(s / T))

    Args:
        student_logits: s, R x classes, of transformed images.
        teacher_logits: t, R x classes. Not detached: pass it without gradient; its ranks have none.
        target: R, int64, the labels.
        temperature: T, above 0.
        keep: share of the rows that the teacher gets wrong, from 0 to 1.

    Returns:
        A scalar, at least 0, averaged over the kept rows; 0 where none is kept.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in float32 for half-precision logits, else in their own, under autocast too. No epsilon.

    Source: Xu, Liu, Li, Loy, "Knowledge Distillation Meets Self-Supervision", ECCV 2020, arXiv 2006.07114. Authors'
    code: https://github.com/xuguodong03/SSKD.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> transformed_view_loss(student, teacher, torch.tensor([0, 1]), keep=0.0)  # the second row is left out
        tensor(0.)
    """
    check_same("logits", student_logits, teacher_logits)
    if target.shape != student_logits.shape[:1]:
        raise ValueError(f"{len(student_logits)} rows have {tuple(target.shape)} labels")
    student_logits, teacher_logits = full_precision(student_logits), full_precision(teacher_logits)
    kept = kept_rows(teacher_logits.detach(), target, keep)
    return _kept_divergence(student_logits, teacher_logits, kept, temperature)


def similarities(augmented: Tensor, normal: Tensor) -> Tensor:
    """Cosines of transformed samples and samples as they are: R x D and B x D -> R x B."""
    return F.normalize(full_precision(augmented), dim=1) @ F.normalize(full_precision(normal), dim=1).T


def own_samples(rows: int, samples: int, device: torch.device) -> Tensor:
    """Of each row, the sample that it was made of, where the rows of a sample stand side by side."""
    return torch.arange(samples, device=device).repeat_interleave(rows // samples)


def self_supervised_similarity_loss(
    student_augmented: Tensor,
    student_normal: Tensor,
    teacher_normal: Tensor,
    teacher_augmented: Tensor,
    temperature: float = 0.5,
    keep: float = 0.75,
) -> Tensor:
    """Which samples a transformed one resembles, as the teacher sees it.

    Equation::

        A = cosines of augmented rows and normal rows, 3B x B, for each network
        kept = rows in which the teacher's largest cosine is that of their own sample, and of the n others the
               int(n keep) in which it stands highest
        loss = T^2 mean over kept rows of KL(softmax(A_t / T) || softmax(A_s / T))

    Args:
        student_augmented: 3B x D, rows 3i to 3i + 2 are made of sample i.
        student_normal: B x D.
        teacher_normal: B x D'. The teacher's are not detached: pass them without gradient.
        teacher_augmented: 3B x D'.
        temperature: T, above 0.
        keep: share of the rows that the teacher gets wrong, from 0 to 1.

    Returns:
        A scalar, at least 0, averaged over the kept rows; 0 where none is kept.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in float32 for half-precision inputs, else in their own; the products under autocast in its
    type. Lengths are taken as at least 1e-12.

    Source: Xu, Liu, Li, Loy, "Knowledge Distillation Meets Self-Supervision", ECCV 2020, arXiv 2006.07114. Authors'
    code: https://github.com/xuguodong03/SSKD.

    Example:
        >>> import torch
        >>> normal = torch.eye(2)
        >>> same = normal.repeat_interleave(3, dim=0)
        >>> self_supervised_similarity_loss(same, normal, normal, same)
        tensor(0.)
    """
    for augmented, normal in ((student_augmented, student_normal), (teacher_augmented, teacher_normal)):
        if augmented.shape != (3 * len(normal), *normal.shape[1:]):
            raise ValueError(f"{tuple(augmented.shape)} is not three rows for each of {tuple(normal.shape)}")
    check_same("samples", student_normal, teacher_normal, slice(1))
    student, teacher = similarities(student_augmented, student_normal), similarities(teacher_augmented, teacher_normal)
    student, teacher = full_precision(student), full_precision(teacher)
    target = own_samples(len(student), student.shape[1], student.device)
    return _kept_divergence(student, teacher, kept_rows(teacher.detach(), target, keep), temperature)


class Projection(nn.Module):
    """Linear, ReLU, linear: B x D -> B x D."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Project; the input's precision may differ from the weights' own."""
        out: Tensor = self.second(torch.relu(self.first(x.to(self.first.weight.dtype))))
        return out


class SelfSupervision(Strategy):
    """SSKD: beside soft targets, how the teacher groups rotated images with the images that they were made of.

    Knowledge: soft targets on images and on their rotations, and the cosines of each rotated image with all images of
    the batch, by heads on the embeddings, B x D.

    Loss: in the first phase, CE(softmax over the batch of the teacher's cosines, own image) trains the teacher's head.
    Then ce_weight CE(student, labels) + alpha T^2 KL of the softened logits, both on images as they are, +
    similarity self_supervised_similarity_loss + transformed transformed_view_loss, both on the three rotations, by 90,
    180 and 270 degrees. Each head is a linear layer, ReLU and a linear layer of its network's width.

    Cost: both networks run on four times as many images, in both phases, and the teacher bank does not serve it: its
    signals of four images would be kept for each. Serves every pair on square images.

    Differs from the paper: the share of the first phase is of the recipe's own epochs, with its learning rates (the
    authors train the teacher's head for 60 epochs beforehand, at 0.05, divided by 10 at 30 and 45).
    Under mixed labels the label is the class with the largest share.
    """

    name = "sskd"
    family = "contrastive"
    paper = Paper(
        title="Knowledge Distillation Meets Self-Supervision",
        authors="Guodong Xu, Ziwei Liu, Xiaoxiao Li, Chen Change Loy",
        year=2020,
        venue="ECCV 2020",
        id="2006.07114",
        code="https://github.com/xuguodong03/SSKD",
    )
    signals = ("logits", "embedding")
    variants = 4
    non_negative = True
    order_dependent = True  # of rotations that the teacher gets equally wrong, the first ones of the batch are kept

    ce_weight: float = param(0.1, "weight of the hard-label loss", source="authors' code", ge=0.0)
    alpha: float = param(
        0.9, "weight of the soft targets", source="authors' code", ge=0.0, search=(0.1, 10.0), log=True
    )
    similarity: float = param(
        10.0, "weight of the cosines", source="authors' code", ge=0.0, search=(1.0, 100.0), log=True
    )
    transformed: float = param(
        2.7, "weight of soft targets on rotations", source="authors' code", ge=0.0, search=(0.1, 10.0), log=True
    )
    temperature: float = param(4.0, "of logits", source="authors' code", gt=0.0, search=(1.0, 10.0))
    cosine_temperature: float = param(0.5, "of cosines", source="authors' code", gt=0.0, search=(0.1, 2.0))
    keep: float = param(
        0.75, "share of kept rotations that the teacher's head gets wrong", source="authors' code", ge=0.0, le=1.0
    )
    keep_transformed: float = param(
        1.0, "share of kept rotations that the teacher gets wrong", source="authors' code", ge=0.0, le=1.0
    )
    share: float = param(
        60 / 300,
        "share of the epochs that train the teacher's head, at least one epoch",
        source="authors' code: 60 epochs before 240",
        gt=0.0,
        lt=1.0,
    )

    def build(self, setup: Setup) -> None:
        """Make the heads."""
        check_classes(self.name, setup)
        if any(stage.height != stage.width for stage in (*setup.student.stages, *setup.teacher.stages)):
            raise PairError("sskd rotates images by 90 degrees, which must be square: set --img-size to one number")
        self.student_head = Projection(setup.student.embedding)
        self.teacher_head = Projection(setup.teacher.embedding)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The teacher's head, then the student."""
        first = max(1, round(self.share * epochs))
        if first >= epochs:
            raise UsageError(f"sskd.share is {self.share}, which leaves no epoch of {epochs} for the student: lower it")
        return Phase("head", first, hard_labels=False, trains="strategy"), Phase("main", epochs - first)

    def augment(self, images: Tensor) -> Tensor:
        """The images, and their rotations by 90, 180 and 270 degrees: R x C x H x H -> 4R x C x H x H."""
        return torch.cat([images.rot90(turns, dims=(2, 3)) for turns in range(4)])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``head``, in the first phase; then ``soft``, ``similarity`` and ``transformed``."""
        if batch.phase != "main":
            normal, augmented = _apart(self.teacher_head(teacher.embedding))
            cosines = full_precision(similarities(augmented, normal))
            return {"head": F.cross_entropy(cosines, own_samples(len(augmented), len(normal), normal.device))}
        with torch.no_grad():
            theirs = _apart(self.teacher_head(teacher.embedding))
        own = _apart(self.student_head(student.embedding))
        similar = self_supervised_similarity_loss(
            student_augmented=own[1],
            student_normal=own[0],
            teacher_normal=theirs[0],
            teacher_augmented=theirs[1],
            temperature=self.cosine_temperature,
            keep=self.keep,
        )
        (plain, turned), (answers, guesses) = _apart(student.logits), _apart(teacher.logits)
        labels = _apart(labels_of(batch)[:, None])[1].squeeze(1)
        return {
            "soft": self.alpha * soft_target_loss(plain, answers, self.temperature),
            "similarity": self.similarity * similar,
            "transformed": self.transformed
            * transformed_view_loss(turned, guesses, labels, self.temperature, self.keep_transformed),
        }


def _apart(rows: Tensor) -> tuple[Tensor, Tensor]:
    """4B x D, one variant after another -> B x D of images as they are, and 3B x D of rotations, sample by sample."""
    normal, *turned = rows.chunk(4)
    return normal, torch.stack(turned, dim=1).flatten(0, 1)
