"""USKD: the student's own answers, from its last stage and the one before, make soft labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.response.distributions import labels_of, log_probabilities
from kdzoo_zoo.tensors import check_same, full_precision

_SOURCE = "authors' settings"


def universal_self_loss(
    student_logits: Tensor,
    weak_logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 0.1,
    mu: float = 0.005,
    log_rank: bool = False,
) -> Tensor:
    """Soft labels for the target class, for the other classes, and smoothed labels for a weak classifier.

    Equation, with s and w the probabilities of the two logits, y = ``target``, K classes, and constants in brackets::

        t = [s_y^2 + 1 - mean_b s_y^2]
        r = w / (1 - w_y + 1e-6) + s / (1 - s_y + 1e-6)
        z = [1 / place in the order of r, from the largest, over the classes c != y, divided by its sum]
        loss = - alpha mean_b t log s_y - beta mean_b sum_(c != y) z_c log (s_c / (1 - s_y))
               - mu mean_b sum_c (0.9 1(c = y) + 0.1 / K) log w_c

    Args:
        student_logits: B x classes, at least two.
        weak_logits: B x classes, of a classifier on earlier features.
        target: B, int64, the labels.
        alpha: weight of the target class.
        beta: weight of the other classes.
        mu: weight of the weak classifier.
        log_rank: whether log s stands for s in the numerator of r, as in the authors' code.

    Returns:
        A scalar: summed over classes, mean over the batch.

    Raises:
        ValueError: the shapes differ, or there is a single class.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. Epsilons 1e-6
    as in the equation, in the order alone; equal values of r keep the order of the classes.

    Source: Yang, Zeng, Li, Zhang, Yuan, Li, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified
    Approach with Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv 2303.13005. Authors' code:
    https://github.com/yzd-v/cls_KD. Its order takes the student's log-probabilities, where the paper has probabilities.

    Example:
        One sample: t = 1, and log s_y = -log 3; of the other classes the order is 1, 2, with z = (2/3, 1/3), or
        (3/5, 2/5) where the label is first of all three:

        >>> student = torch.zeros(1, 3)
        >>> weak = torch.tensor([[1.0, 0.0, -1.0]])
        >>> universal_self_loss(student, weak, torch.tensor([0]), alpha=1.0, beta=0.0, mu=0.0)
        tensor(1.0986)
        >>> universal_self_loss(student, weak, torch.tensor([0]), alpha=0.0, beta=1.0, mu=0.0)
        tensor(0.6931)
    """
    check_same("logits", student_logits, weak_logits, of=("student", "weak classifier"))
    classes = student_logits.shape[1]
    if classes < 2:
        raise ValueError("universal_self_loss orders the classes beside the label, and needs at least two classes")
    label = target[:, None]
    log_s, log_w = log_probabilities(student_logits, 1.0), log_probabilities(weak_logits, 1.0)
    own = log_s.gather(1, label)
    with torch.no_grad():
        s_y = own.exp()
        sure = s_y.square() + 1 - s_y.square().mean()
        places = _places(log_s, log_w, label, log_rank)
    # The logits of the other classes need no label's share: it is the same for all of them, and cancels.
    others = log_s.scatter(1, label, float("-inf"))
    ranked = (places * log_s).sum(dim=1) - others.logsumexp(dim=1)
    smoothed = 0.9 * log_w.gather(1, label).mean() + 0.1 * log_w.mean()
    return -alpha * (sure * own).mean() - beta * ranked.mean() - mu * smoothed


def _places(log_s: Tensor, log_w: Tensor, label: Tensor, log_rank: bool) -> Tensor:
    """Weights of the classes by their place in the order of both answers, B x classes; 0 for the label."""
    s, w = log_s.exp(), log_w.exp()
    rank = w / (1 - w.gather(1, label) + 1e-6) + (log_s if log_rank else s) / (1 - s.gather(1, label) + 1e-6)
    order = rank.argsort(dim=1, descending=True, stable=True)
    steps = torch.arange(1, log_s.shape[1] + 1, dtype=log_s.dtype, device=log_s.device).reciprocal()
    weights = torch.empty_like(log_s).scatter_(1, order, steps.expand_as(order)).scatter_(1, label, 0.0)
    return weights / weights.sum(dim=1, keepdim=True)


class UniversalSelfKD(Strategy):
    """USKD: without a teacher, soft labels are made of the student's own answers and of a weak classifier's.

    Knowledge: none of a teacher, which is never run. How sure the student is of a label, compared with the batch, and
    in which order it and a weak classifier, on the stage before the last, put the other classes.

    Loss: CE(student, labels) - alpha mean t log s_y - beta mean sum_c z_c log softmax of the other classes' logits
    - mu mean sum_c (0.9 y + 0.1 / K) log w_c; t = s_y^2 + 1 - its mean over the batch, z falls with the place of a
    class in the order, logits B x K.

    Cost: a linear layer on the pooled map of the last stage but one, trained with the student and discarded after
    training; a sort of the classes of each sample. Serves every student of at least two stages.

    Differs from the paper: the weak classifier reads the mean of the map over its positions for transformers too, where
    the authors take the class token of a middle layer. With ``log_rank`` the order takes log-probabilities of the
    student, as in the authors' code. Under mixed labels the label is the class with the largest share.
    """

    name = "uskd"
    family = "response"
    paper = Paper(
        title="From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and "
        "Customized Soft Labels",
        authors="Zhendong Yang, Ailing Zeng, Zhe Li, Tianke Zhang, Chun Yuan, Yu Li",
        year=2023,
        venue="ICCV 2023",
        id="2303.13005",
        code="https://github.com/yzd-v/cls_KD",
    )
    signals = ("logits", "stages")
    teacher_signals = ()

    alpha: float = param(
        0.1, "weight of the target class", ge=0.0, imagenet=1.0, search=(0.01, 2.0), log=True, source=_SOURCE
    )
    beta: float = param(0.1, "weight of the other classes", ge=0.0, search=(0.01, 1.0), log=True, source=_SOURCE)
    mu: float = param(
        0.1, "weight of the weak classifier", ge=0.0, imagenet=0.005, search=(0.005, 1.0), log=True, source=_SOURCE
    )
    log_rank: bool = param(False, "whether the order takes the student's log-probabilities", in_paper=False)

    def build(self, setup: Setup) -> None:
        """Make the weak classifier."""
        if len(setup.student.stages) < 2:
            raise PairError("uskd reads the student's last stage but one, and this student has one: take another")
        self.weak = nn.Linear(setup.student.stages[-2].channels, setup.num_classes)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``self``."""
        pooled = full_precision(student.stages[-2]).mean(dim=(2, 3))
        weak = self.weak(pooled.to(self.weak.weight.dtype))
        loss = universal_self_loss(
            student.logits, weak, labels_of(batch), self.alpha, self.beta, self.mu, self.log_rank
        )
        return {"self": loss}
