"""Decoupled distillation: the label's share and the other classes are matched apart."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence, labels_of, two_way_divergence
from kdzoo_zoo.schedules import warm_up
from kdzoo_zoo.tensors import check_same, full_precision


def decoupled_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """Divergences of the label's share, and of the other classes among themselves, each with a weight.

    Equation, with T = ``temperature``, y = ``target``, p = softmax(logits / T)::

        b = (p_y, 1 - p_y),  q = softmax over the classes other than y of logits / T
        loss = T^2 mean_b [alpha KL(b_t || b_s) + beta KL(q_t || q_s)]

    With beta replaced by 1 - p_y of the teacher, and alpha = 1, it is the divergence of soft targets.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        target: B, int64, the labels.
        alpha: weight of the label's share.
        beta: weight of the other classes.
        temperature: above 0.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch; 0 where the logits are equal.

    Raises:
        ValueError: the shapes differ, or there are only two classes: the second term has nothing to compare.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. The label's
    share goes by its log-odds, log-softmax everywhere else; no epsilon, and no large number that stands for minus
    infinity.

    Source: Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022, arXiv 2203.08679. Authors' code:
    https://github.com/megvii-research/mdistiller. There, and in its copies, the label is masked by -1000 and logarithms
    are taken of a softmax: the same value where that does not underflow.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 0.6931, 0.0]])
        >>> decoupled_loss(student, teacher, torch.tensor([0]), alpha=0.0, beta=1.0, temperature=1.0)
        tensor(0.0566)
    """
    check_same("logits", student_logits, teacher_logits)
    if student_logits.shape[1] < 3:
        raise ValueError("decoupled_loss compares the classes beside the label, and needs at least two of them")
    label = target[:, None]
    others, *masses = divergence(student_logits, teacher_logits, temperature, temperature, besides=target)
    # By how much the label is above all others together: the log-odds of its share.
    student, teacher = (
        full_precision(logits).gather(1, label).squeeze(1) / temperature - mass
        for logits, mass in zip((student_logits, teacher_logits), masses, strict=True)
    )
    return temperature**2 * (alpha * two_way_divergence(student, teacher) + beta * others).mean()


class DecoupledKD(Strategy):
    """Decoupled distillation: the teacher's confidence in the label and its distribution over the other classes have
    separate weights.

    Knowledge: the class probabilities in two parts. In soft targets the other classes count the less, the surer the
    teacher is of the label; here they have the same weight in every sample.

    Loss: CE(student, labels) + w T^2 (alpha KL(b_t || b_s) + beta KL(q_t || q_s)), b the two shares of label and other
    classes, q the softmax over the other classes, logits B x classes, w rising from 0 to 1 over the warm-up.

    Cost: two softmaxes; no adapters. Serves every pair whose logits have the same classes, at least three.

    Differs from the paper: logarithms are never taken of a probability, so that a certain teacher has finite
    gradients. Under mixed labels the label is the class with the largest share. The weight beta fits the pair:
    mdistiller has 8 for resnet32x4 teachers and mobile students, 6 for vgg13 and wide ResNets, 2 for resnet56 and
    resnet110.
    """

    name = "dkd"
    family = "response"
    paper = Paper(
        title="Decoupled Knowledge Distillation",
        authors="Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang",
        year=2022,
        venue="CVPR 2022",
        id="2203.08679",
        code="https://github.com/megvii-research/mdistiller",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    alpha: float = param(
        1.0, "weight of the label's share", ge=0.0, search=(0.1, 10.0), log=True, source="mdistiller's configs"
    )
    beta: float = param(
        8.0,
        "weight of the other classes",
        ge=0.0,
        imagenet=0.5,
        search=(0.5, 20.0),
        log=True,
        source="mdistiller's configs, resnet32x4 pairs; ImageNet: its r34_r18 config",
    )
    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        imagenet=1.0,
        search=(1.0, 8.0),
        log=True,
        source="mdistiller's configs; ImageNet: its r34_r18 config",
    )
    warm_up: float = param(
        20 / 240,
        "share of the training in which the weight rises from 0",
        ge=0.0,
        le=1.0,
        imagenet=1 / 100,
        source="mdistiller's configs, 20 of 240 epochs; ImageNet: 1 of 100",
    )

    def build(self, setup: Setup) -> None:
        """Check that there are classes to compare."""
        check_classes(self.name, setup)
        if setup.student.num_classes < 3:
            raise PairError(
                "dkd compares the classes beside the label, and of two classes that is a single one: use soft"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``dkd``."""
        loss = decoupled_loss(student.logits, teacher.logits, labels_of(batch), self.alpha, self.beta, self.temperature)
        return {"dkd": warm_up(batch, self.warm_up) * loss}
