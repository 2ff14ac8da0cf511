"""Generalised decoupled distillation: the teacher's most likely classes, the others, and the shares of the two."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence, two_way_divergence
from kdzoo_zoo.schedules import warm_up
from kdzoo_zoo.tensors import check_same

_SOURCE = "authors' configs; ImageNet: their r34_r18 config"


def generalized_decoupled_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    w0: float,
    w1: float,
    w2: float,
    k: int,
    temperature: float,
) -> Tensor:
    """Divergences of the shares of the teacher's k most likely classes and of the rest, and within either.

    Equation, with T = ``temperature``, p_x = softmax(x_logits / T), x = s, t, and S the k largest teacher logits::

        m_x = (sum of p_x over S, sum of p_x over the rest)
        loss = T^2 mean_b [w0 KL(m_t || m_s) + w1 KL(p_t within S || p_s within S)
                           + w2 KL(p_t within the rest || p_s within the rest)]

    where p within a set is divided by its sum there.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        w0: weight of the shares.
        w1: weight of the k classes.
        w2: weight of the others.
        k: from 1 to classes - 1.
        temperature: above 0; higher is softer.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where the logits are equal.

    Raises:
        ValueError: the shapes differ, or k leaves one of the two sets empty.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. Shares go by
    their log-odds, the rest by a log-sum-exp over each set; no epsilon.

    Source: Zheng, Cheng, "Rethinking Decoupled Knowledge Distillation: A Predictive Distribution Perspective", IEEE
    Transactions on Neural Networks and Learning Systems, 2025, arXiv 2512.04625. Authors' code:
    https://github.com/ZaberKo/GDKD. It masks classes by large numbers; the same value where that does not underflow.

    Example:
        The teacher gives 4/7 to its first class, 2/7 and 1/7 to the others, the student 1/3 to each:

        >>> import torch
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 4.0]]).log()
        >>> generalized_decoupled_loss(student, teacher, 1.0, 0.0, 0.0, k=1, temperature=1.0)
        tensor(0.1186)
        >>> generalized_decoupled_loss(student, teacher, 0.0, 1.0, 1.0, k=1, temperature=1.0)
        tensor(0.0566)
    """
    check_same("logits", student_logits, teacher_logits)
    if not 0 < k < student_logits.shape[1]:
        raise ValueError(f"k is {k}: of {student_logits.shape[1]} classes some must be among the first k, and some not")
    places = teacher_logits.topk(k, dim=1).indices
    student_top, teacher_top = student_logits.gather(1, places), teacher_logits.gather(1, places)
    top = divergence(student_top, teacher_top, temperature, temperature)
    rest = divergence(student_logits, teacher_logits, temperature, temperature, besides=places)
    shares = two_way_divergence(top.student_mass - rest.student_mass, top.teacher_mass - rest.teacher_mass)
    return temperature**2 * (w0 * shares + w1 * top.distance + w2 * rest.distance).mean()


class GeneralizedDecoupledKD(Strategy):
    """Generalised decoupled distillation: the distributions over the teacher's k most likely classes and over the
    others have separate weights.

    Knowledge: the class probabilities in three parts: which share the teacher gives to its k most likely classes, how
    it divides that among them, and how it divides the rest.

    Loss: CE(student, labels) + w T^2 [w0 KL(m_t || m_s) + w1 KL(q_t || q_s) + w2 KL(r_t || r_s)], m the shares of the
    teacher's k classes and of the rest, q and r the softmax at T within either, logits B x classes; w rises from 0 to 1
    over the warm-up.

    Cost: three passes over the logits; no adapters. Serves every pair whose logits have the same classes, more than k.

    Differs from the paper: nothing in the loss. Defaults are those of the authors' configurations.
    """

    name = "gdkd"
    family = "response"
    paper = Paper(
        title="Rethinking Decoupled Knowledge Distillation: A Predictive Distribution Perspective",
        authors="Bowen Zheng, Ran Cheng",
        year=2025,
        venue="IEEE TNNLS 2025",
        id="2512.04625",
        code="https://github.com/ZaberKo/GDKD",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    w0: float = param(1.0, "weight of the shares", ge=0.0, imagenet=0.5, search=(0.1, 10.0), log=True, source=_SOURCE)
    w1: float = param(
        2.0, "weight of the first k classes", ge=0.0, imagenet=1.0, search=(0.1, 10.0), log=True, source=_SOURCE
    )
    w2: float = param(
        8.0, "weight of the other classes", ge=0.0, imagenet=1.0, search=(0.5, 20.0), log=True, source=_SOURCE
    )
    k: int = param(5, "how many of the teacher's most likely classes are set apart", ge=1, source=_SOURCE)
    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        imagenet=1.0,
        search=(1.0, 8.0),
        log=True,
        source=_SOURCE,
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
        """Check that there are classes beside the first k."""
        check_classes(self.name, setup)
        if self.k >= setup.num_classes:
            raise PairError(
                f"gdkd sets the teacher's {self.k} most likely classes against the others, and the dataset has "
                f"{setup.num_classes}: lower gdkd.k below that"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``gdkd``."""
        loss = generalized_decoupled_loss(
            student.logits, teacher.logits, self.w0, self.w1, self.w2, self.k, self.temperature
        )
        return {"gdkd": warm_up(batch, self.warm_up) * loss}
