"""Soft targets: the student matches the teacher's softened class probabilities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence
from kdzoo_zoo.tensors import check_same, full_precision


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Divergence of the student's softened class probabilities from the teacher's.

    Equation, with T = ``temperature``::

        p_t = softmax(teacher_logits / T),  p_s = softmax(student_logits / T)
        loss = T^2 KL(p_t || p_s) = T^2 mean_b sum_c p_t (log p_t - log p_s)

    T^2 keeps the size of the gradient in the logits about the same at every temperature; the weight alpha is the
    caller's.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where both distributions are equal.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; both sides
    are log-softmax values, so that no probability is rounded to 0 before its logarithm (no epsilon).

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, NIPS 2014 Deep Learning
    Workshop, arXiv 1503.02531. No code by the authors. The paper writes the cross-entropy with the soft targets; the
    KL divergence differs from it by the teacher's entropy, which is constant, so the gradients are equal and the loss
    is 0 at the target.

    Example:
        >>> import torch
        >>> soft_target_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 0.0]]), temperature=2.0)
        tensor(0.4438)
    """
    check_same("logits", student_logits, teacher_logits)
    return divergence(student_logits, teacher_logits, temperature, temperature).distance.mean() * temperature**2


class TopLogits(NamedTuple):
    """What is left of logits when all but the largest are one: B x K values and classes, and B x 1 for the others.

    Args:
        values: the K largest logits, from large to small.
        classes: int16, where a class number fits in it, else int32.
        rest: T log sum exp(logit / T) over the other classes: their logit if they were a single class.
    """

    values: Tensor
    classes: Tensor
    rest: Tensor


def top_logits(logits: Tensor, top_k: int, temperature: float) -> TopLogits:
    """The largest logits of each sample, and one that stands for the others at a temperature.

    Equation, with T = ``temperature``::

        rest = T log sum_(c not in top) exp(logits_c / T)

    Args:
        logits: B x classes.
        top_k: K, from 1 to classes - 1.
        temperature: above 0.

    Returns:
        Their softmax at that temperature is the one of all logits, with the probabilities of the others summed.

    Precision: computed in float32 for half-precision logits.

    Source: kdzoo's own, so that fewer numbers of a sample need to be kept; follows from the definition of softmax.
    """
    logits = full_precision(logits)
    values, classes = logits.topk(top_k, dim=1)
    others = logits.scatter(1, classes, float("-inf"))
    rest = temperature * (others / temperature).logsumexp(dim=1, keepdim=True)
    small = logits.shape[1] <= torch.iinfo(torch.int16).max
    return TopLogits(values, classes.to(torch.int16 if small else torch.int32), rest)


def top_soft_target_loss(student_logits: Tensor, teacher: TopLogits, temperature: float) -> Tensor:
    """:func:`soft_target_loss` where all classes but the teacher's K most likely ones count as a single one.

    Equation, with T = ``temperature`` and ``top`` the teacher's K classes::

        q_x = (p_x over top, 1 - sum of them),  p_x = softmax(x_logits / T),  x = s, t
        loss = T^2 KL(q_t || q_s), mean over the batch

    It is never above the loss over all classes, since joining classes can only bring two distributions nearer, and
    equal to it with K = classes - 1.

    Args:
        student_logits: B x classes.
        teacher: of :func:`top_logits` at the same temperature.
        temperature: above 0.

    Returns:
        A scalar, at least 0.

    Precision: as in :func:`soft_target_loss`; the student's joined class by a log-sum-exp.

    Source: kdzoo's own, from :func:`soft_target_loss` of the joined classes.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[2.0, 0.0, 1.0]])
        >>> student = torch.tensor([[0.0, 1.0, 0.0]])
        >>> top_soft_target_loss(student, top_logits(teacher, 1, 2.0), 2.0)
        tensor(0.4824)
    """
    student_logits = full_precision(student_logits) / temperature
    places = teacher.classes.long()
    others = student_logits.scatter(1, places, float("-inf")).logsumexp(dim=1, keepdim=True)
    own = torch.cat([student_logits.gather(1, places), others], dim=1)
    theirs = torch.cat([teacher.values, teacher.rest], dim=1)
    return divergence(own, theirs, 1.0, temperature).distance.mean() * temperature**2


def soft_temperature() -> float:
    """Declare T as ``soft`` has it, for the strategies whose soft targets are its own."""
    return param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        search=(1.0, 16.0),
        log=True,
        in_paper=False,
        imagenet=1.0,
        source="RepDistiller and mdistiller for CIFAR-100; mdistiller's configs for ImageNet",
    )


def soft_weight() -> float:
    """Declare alpha as ``soft`` has it."""
    return param(
        0.9,
        "weight of the soft targets; hard labels get 1 - alpha",
        ge=0.0,
        le=1.0,
        search=(0.1, 1.0),
        in_paper=False,
        imagenet=0.5,
        source="as the temperature",
    )


class SoftTargets(Strategy):
    """Soft targets, the original knowledge distillation: learn the teacher's whole answer, not its top class alone.

    Knowledge: the class probabilities, softened by a temperature, which show how the teacher generalises over the
    wrong classes.

    Loss: (1 - alpha) CE(student, labels) + alpha T^2 KL(p_t || p_s), KL summed over classes, mean over the batch.

    Cost: one softmax; no adapters. Serves every pair whose logits have the same classes.

    With ``top_k`` the teacher tells its K most likely classes apart, and all others are one. For datasets of many
    classes: the teacher bank then keeps K + 1 numbers of a sample, not one for each class.

    Differs from the paper: nothing in the loss where ``top_k`` is 0. The paper fixes no values; T = 4 and
    alpha = 0.9 are those in common use on CIFAR.
    """

    name = "soft"
    family = "response"
    paper = Paper(
        title="Distilling the Knowledge in a Neural Network",
        authors="Geoffrey Hinton, Oriol Vinyals, Jeff Dean",
        year=2015,
        venue="NIPS 2014 Deep Learning Workshop",
        id="1503.02531",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    temperature: float = soft_temperature()
    alpha: float = soft_weight()
    top_k: int = param(
        0,
        "K: only the K most likely classes are kept; all others are merged into one class; 0 keeps all",
        ge=0,
        in_paper=False,
        added=True,
    )

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    @property
    def joins(self) -> bool:
        """Whether there are classes that count as one."""
        return 0 < self.top_k < self.setup.num_classes - 1

    def reduce(self, teacher: Outputs) -> Outputs:
        """All logits, or the largest ones and one more."""
        if not self.joins:
            return teacher
        return Outputs(top_logits(teacher.logits, self.top_k, self.temperature)._asdict())

    def reduction(self) -> dict[str, str]:
        """See :meth:`kdzoo.Strategy.reduction`."""
        if not self.joins:
            return {"logits": "logits"}
        top = f"top {self.top_k}"
        return {
            "values": f"logits {top}",
            "classes": f"logits classes of {top}",
            "rest": f"logits but {top} at temperature {self.temperature!r}",
        }

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``soft``."""
        if self.joins:
            top = TopLogits(**teacher.values)
            return {"soft": self.alpha * top_soft_target_loss(student.logits, top, self.temperature)}
        return {"soft": self.alpha * soft_target_loss(student.logits, teacher.logits, self.temperature)}
