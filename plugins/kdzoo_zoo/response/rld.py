"""Refined logit distillation: the label takes the place of a wrong first class, and the classes below are ranked."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence, labels_of, target_margin, two_way_divergence
from kdzoo_zoo.schedules import warm_up
from kdzoo_zoo.tensors import check_same, full_precision

_SOURCE = "authors' settings for CIFAR-100 and, for ImageNet, ResNet34 -> ResNet18"


def refined_logit_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
    alpha_temperature: float,
) -> Tensor:
    """The teacher's confidence for the label, and its ranking of the classes that it finds less likely than the label.

    Equation, with A = ``alpha_temperature``, T = ``temperature``, y = ``target`` and p_x = softmax(x_logits / A),
    x = s, t::

        confidence = KL[(max p_t, 1 - max p_t) || (p_s(y), 1 - p_s(y))]
        S = classes c with teacher_logits_c < teacher_logits_y
        ranking = KL[softmax over S of teacher_logits / T || softmax over S of student_logits / T], 0 where S is empty
        loss = A^2 alpha mean_b confidence + T^2 beta mean_b ranking

    Args:
        student_logits: B x classes, at least two.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        target: B, int64, the labels.
        alpha: weight of the confidence.
        beta: weight of the ranking.
        temperature: above 0, of the ranking.
        alpha_temperature: above 0, of the confidence.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch, samples with an empty S among them. Where the
        teacher is wrong, it is not 0 for a student that equals the teacher.

    Raises:
        ValueError: the shapes differ, or there is a single class.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. The
    confidence goes by log-odds, the ranking by a log-sum-exp over S; no epsilon.

    Source: Sun, Chen, Lyu, Chen, Chen, Wang, "Knowledge Distillation with Refined Logits", ICCV 2025, arXiv 2408.07703.
    Authors' code: https://github.com/zju-SWJ/RLD. It masks classes by large numbers; the same value where that does not
    underflow.

    Example:
        The teacher finds class 0 less likely than the label 1, and class 2 more likely; S is class 0 alone, so the
        ranking is 0. The teacher gives 4/7 to its first class, the student 1/3 to the label:

        >>> import torch
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 4.0]]).log()
        >>> refined_logit_loss(student, teacher, torch.tensor([1]), 1.0, 8.0, 4.0, 1.0)
        tensor(0.1186)
    """
    check_same("logits", student_logits, teacher_logits)
    if student_logits.shape[1] < 2:
        raise ValueError("refined_logit_loss sets a class against the others, and needs at least two classes")
    student, teacher = full_precision(student_logits), full_precision(teacher_logits)
    confidence = two_way_divergence(
        target_margin(student / alpha_temperature, target),
        target_margin(teacher / alpha_temperature, teacher.argmax(dim=1)),
    )
    with torch.no_grad():
        below = torch.lt(teacher, teacher.gather(1, target[:, None]), out=torch.empty_like(teacher))
    some = below.amax(dim=1, keepdim=True)
    # A sample without a class below is given all of them, and does not count.
    ranking = divergence(student, teacher, temperature, temperature, among=below.add_(1 - some)).distance
    ranking = ranking * some.squeeze(1)
    return alpha_temperature**2 * alpha * confidence.mean() + temperature**2 * beta * ranking.mean()


class RefinedLogits(Strategy):
    """Refined logit distillation: where the teacher is wrong, the part of its answer that contradicts the label is
    dropped.

    Knowledge: how sure the teacher is of its answer, be it right or wrong, which the student is to be of the label; and
    the probabilities of the classes that the teacher finds less likely than the label.

    Loss: CE(student, labels) + w [A^2 alpha KL(b_t || b_s) + T^2 beta KL(r_t || r_s)]; b_t is the teacher's largest
    probability and the rest, b_s the student's of the label and the rest, both at A; r the softmax at T over the
    classes below the label in the teacher's logits, B x classes; w rises from 0 to 1 over the warm-up.

    Cost: three passes over the logits; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing. The authors' option of one temperature for both is ``alpha_temperature`` = 4. Under
    mixed labels the label is the class with the largest share.
    """

    name = "rld"
    family = "response"
    paper = Paper(
        title="Knowledge Distillation with Refined Logits",
        authors="Wujie Sun, Defang Chen, Siwei Lyu, Genlang Chen, Chun Chen, Can Wang",
        year=2025,
        venue="ICCV 2025",
        id="2408.07703",
        code="https://github.com/zju-SWJ/RLD",
    )
    signals = ("logits",)
    per_sample = True
    non_negative = True

    alpha: float = param(1.0, "weight of the confidence", ge=0.0, search=(0.1, 10.0), log=True, source=_SOURCE)
    beta: float = param(
        8.0, "weight of the ranking", ge=0.0, imagenet=0.5, search=(0.5, 20.0), log=True, source=_SOURCE
    )
    temperature: float = param(
        4.0, "T of the ranking", gt=0.0, imagenet=1.0, search=(1.0, 8.0), log=True, source=_SOURCE
    )
    alpha_temperature: float = param(
        1.0, "A, the temperature of the confidence", gt=0.0, search=(1.0, 4.0), log=True, source=_SOURCE
    )
    warm_up: float = param(
        20 / 240,
        "share of the training in which the weight rises from 0",
        ge=0.0,
        le=1.0,
        imagenet=1 / 100,
        source=f"{_SOURCE}, 20 of 240 epochs and 1 of 100",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``rld``."""
        loss = refined_logit_loss(
            student.logits,
            teacher.logits,
            labels_of(batch),
            self.alpha,
            self.beta,
            self.temperature,
            self.alpha_temperature,
        )
        return {"rld": warm_up(batch, self.warm_up) * loss}
