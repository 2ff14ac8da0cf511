"""Multi-level logit distillation: answers, relations of samples and relations of classes, at several temperatures."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.gram import gram
from kdzoo_zoo.response.distributions import log_probabilities
from kdzoo_zoo.tensors import check_same, full_precision

_SOURCE = "authors' settings for CIFAR-100 and, for ImageNet, ResNet34 -> ResNet18"

TEMPERATURES = (2.0, 3.0, 5.0, 6.0)
"""Beside the main one."""


def batch_correlation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Difference of the two networks' similarities between the samples of a batch.

    Equation, with P_x = softmax(x_logits / ``temperature``), B x K, x = s, t::

        loss = sum over i, j of (P_s P_s' - P_t P_t')_ij^2 / B

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, at least 0: summed over the B x B pairs, divided by B; 0 where the networks agree.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. No epsilon.

    Source: Jin, Wang, Lin, "Multi-Level Logit Distillation", CVPR 2023. Authors' code:
    https://github.com/Jin-Ying/Multi-Level-Logit-Distillation.

    Example:
        Two equal answers of the student, two opposite ones of the teacher; two of four pairs are 1/2 too high:

        >>> student = torch.zeros(2, 2)
        >>> teacher = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
        >>> batch_correlation_loss(student, teacher, 1.0)
        tensor(0.5000)
    """
    check_same("logits", student_logits, teacher_logits)
    student, teacher = ((full_precision(x) / temperature).softmax(dim=1) for x in (student_logits, teacher_logits))
    return _between_rows(student, teacher) / len(student)


def class_correlation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Difference of the two networks' similarities between the classes, as a batch shows them.

    Equation, with P_x = softmax(x_logits / ``temperature``), B x K, x = s, t::

        loss = sum over i, j of (P_s' P_s - P_t' P_t)_ij^2 / K

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, at least 0: summed over the K x K pairs, divided by K; 0 where the networks agree.

    Raises:
        ValueError: the shapes differ.

    Precision: as :func:`batch_correlation_loss`.

    Memory: B x B and not K x K where a batch has fewer samples than there are classes.

    Source: as :func:`batch_correlation_loss`.

    Example:
        >>> student = torch.zeros(2, 2)
        >>> teacher = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
        >>> class_correlation_loss(student, teacher, 1.0)
        tensor(0.5000)
    """
    check_same("logits", student_logits, teacher_logits)
    student, teacher = ((full_precision(x) / temperature).softmax(dim=1) for x in (student_logits, teacher_logits))
    return _between_rows(student.T, teacher.T) / student.shape[1]


def _between_rows(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of the squares of S S' - T T'."""
    if student.shape[0] > student.shape[1]:
        return _gram_differences(student.T, teacher.T)[1]
    return (gram(student) - gram(teacher)).square().sum()


def _gram_differences(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the squares of S S' - T T' and of S' S - T' T.

    Both from products between the rows, or between the columns where those are fewer: with D = S - T, E = D D' and
    C = D T', the first difference is E + C + C', and the squares of the second sum up to
    <E, E> + 4 <E, C> + 2 <C', C> + 2 <E, T T'>. Every part has D as a factor, so nothing is lost where the networks are
    close.
    """
    if student.shape[0] > student.shape[1]:
        second, first = _gram_differences(student.T, teacher.T)
        return first, second
    with torch.autocast(student.device.type, enabled=False):
        difference = student - teacher
        own, cross, known = gram(difference), difference @ teacher.T, gram(teacher)
    first = (own + cross + cross.T).square().sum()
    second = (own * (own + 4 * cross + 2 * known)).sum() + 2 * (cross.T * cross).sum()
    return first, second


def multi_level_loss(student_logits: Tensor, teacher_logits: Tensor, temperatures: Iterable[float]) -> Tensor:
    """Soft targets, similarities of samples and similarities of classes, summed over several temperatures.

    Equation::

        loss = sum over T in temperatures of
            soft_target_loss(s, t, T) + batch_correlation_loss(s, t, T) + class_correlation_loss(s, t, T)

    with s and t the logits of student and teacher; every part has weight 1.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        temperatures: each above 0.

    Returns:
        A scalar, at least 0; 0 where the networks agree.

    Raises:
        ValueError: the shapes differ, or there is no temperature.

    Precision: that of its parts.

    Source: as :func:`batch_correlation_loss`. The authors' code differs from their paper: a mask of samples of which
    the teacher is less sure than of the median multiplies what is averaged already, which halves terms; the term of the
    strongly augmented view takes logits of the weakly augmented one at temperatures 2 and 6; the correlations of the
    strong view are computed and not added. Here is the paper's form.

    Example:
        >>> student = torch.zeros(2, 2)
        >>> teacher = torch.tensor([[100.0, 0.0], [0.0, 100.0]])
        >>> multi_level_loss(student, teacher, [1.0])  # log 2 + 1/2 + 1/2
        tensor(1.6931)
    """
    check_same("logits", student_logits, teacher_logits)
    losses = [_level(student_logits, teacher_logits, temperature) for temperature in temperatures]
    if not losses:
        raise ValueError("multi_level_loss needs at least one temperature")
    return torch.stack(losses).sum()


def _level(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The three parts at one temperature, with one softmax of each network."""
    log_student, log_teacher = (log_probabilities(x, temperature) for x in (student_logits, teacher_logits))
    by_sample, by_class = _gram_differences(log_student.exp(), log_teacher.exp())
    batch, classes = log_student.shape
    soft = temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return soft + by_sample / batch + by_class / classes


class MultiLevel(Strategy):
    """Multi-level logit distillation: the teacher's answers, and how they relate samples and classes to each other.

    Knowledge: the softened class probabilities at several temperatures, the similarities of a batch's samples in them,
    and the similarities of the classes.

    Loss: (1 - alpha) CE(student, labels) + alpha sum over T of [T^2 KL(p_t || p_s) + |P_s P_s' - P_t P_t'|^2 / B
    + |P_s' P_s - P_t' P_t|^2 / K], P the B x K probabilities at T, over the T of 2, 3, 5, 6 and ``temperature``, each
    once.

    Cost: five softmaxes of each network and products of B x B numbers; no adapters. Serves every pair whose logits have
    the same classes. Samples of a batch are compared, so the batch size is part of its effect.

    Differs from the paper: with ``two_views`` the loss is the mean over two augmented versions of each sample, where
    the authors' code adds a weakly and a strongly augmented one; here both are drawn as the recipe says. The code's
    masks of unsure samples, its use of weak logits in strong terms, and correlations that it computes and does not add,
    are in no equation of the paper and are left out.
    """

    name = "mlkd"
    family = "response"
    paper = Paper(
        title="Multi-Level Logit Distillation",
        authors="Ying Jin, Jiaqi Wang, Dahua Lin",
        year=2023,
        venue="CVPR 2023",
        id="10.1109/CVPR52729.2023.02325",
        code="https://github.com/Jin-Ying/Multi-Level-Logit-Distillation",
    )
    signals = ("logits",)
    zero_when_equal = True
    non_negative = True

    alpha: float = param(
        0.9,
        "weight of the teacher; hard labels get 1 - alpha",
        ge=0.0,
        le=1.0,
        imagenet=0.5,
        search=(0.1, 1.0),
        source=_SOURCE,
    )
    temperature: float = param(
        4.0, "T beside 2, 3, 5 and 6", gt=0.0, imagenet=1.0, search=(1.0, 8.0), log=True, source=_SOURCE
    )
    two_views: bool = param(
        False, "two augmented versions of each sample in a batch, at twice the cost", in_paper=False
    )

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)
        self.views = 2 if self.two_views else 1
        self.temperatures = sorted({self.temperature, *TEMPERATURES})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``levels``."""
        views = zip(student.logits.chunk(self.views), teacher.logits.chunk(self.views), strict=True)
        losses = [multi_level_loss(own, theirs, self.temperatures) for own, theirs in views]
        return {"levels": self.alpha * torch.stack(losses).mean()}
