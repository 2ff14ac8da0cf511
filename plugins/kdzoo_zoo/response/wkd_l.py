"""WKD-L: the student's wrong answers cost the more, the less their classes resemble those that the teacher names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Classifier, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import labels_of, log_probabilities
from kdzoo_zoo.schedules import cosine_decay
from kdzoo_zoo.tensors import check_same, full_precision

_SOURCE = "authors' settings for CIFAR-100 and, for ImageNet, ResNet34 -> ResNet18"


def wasserstein_logit_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    cost: Tensor,
    gamma: float,
    temperature: float,
    regularization: float = 0.05,
    iterations: int = 10,
) -> Tensor:
    """Cross-entropy of the label, and the cost of moving the student's other answers to where the teacher has them.

    Equation, with T = ``temperature``, y = ``target``, and for each sample p, q = softmax over the K - 1 classes other
    than y of the student's and the teacher's logits / T, and C = relu(cost) + 1e-8 without the label's row and column::

        G = exp(-C / regularization),  u = 1 / (K - 1)
        repeat ``iterations`` times: v = q / (G' u + 1e-8),  u = p / (G v + 1e-8)
        flow = u G v'
        loss = - mean_b p_t(y) log p_s(y) + gamma mean_b sum flow x C

    with p_t and p_s the probabilities at temperature 1. The flow is the cheapest way, up to the regularisation, of
    moving the probabilities p to q.

    Args:
        student_logits: B x K, K at least 2.
        teacher_logits: B x K. Not detached: pass it without gradient.
        target: B, int64, the labels.
        cost: K x K, what moving a probability from a class to another costs; negative values count as 0.
        gamma: weight of the transport.
        temperature: above 0, of the transport.
        regularization: above 0; higher gives a smoother flow.
        iterations: at least 1, of Sinkhorn's algorithm; the gradient goes through all of them.

    Returns:
        A scalar, at least 0: mean over the batch. Not 0 where the logits are equal.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. Epsilons 1e-8
    as in the equation.

    Memory: B x K numbers for each iteration. All samples share one K x K matrix: the label has no probability to move,
    so its row and column have no part in any sum.

    Source: Lv, Yang, Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation", NeurIPS
    2024, arXiv 2412.08139. Authors' code: https://github.com/JiamingLv/WKD, which has a (K - 1) x (K - 1) matrix for
    each sample; the same value.

    Example:
        Of the classes beside the label, the student is to move 3/10 from one to the other, at a cost of 1/10; that the
        flow is smoothed adds a little:

        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 4.0]]).log().clamp(min=-100)
        >>> cost = 0.1 * (1 - torch.eye(3))
        >>> wasserstein_logit_loss(student, teacher, torch.tensor([0]), cost, 1.0, 1.0)
        tensor(0.0312)
    """
    check_same("logits", student_logits, teacher_logits)
    classes = student_logits.shape[1]
    if classes < 2 or cost.shape != (classes, classes):
        raise ValueError(f"the cost of {classes} classes has the shape {tuple(cost.shape)}: it must be square, and fit")
    student, teacher = full_precision(student_logits), full_precision(teacher_logits)
    label = target[:, None]
    known = log_probabilities(teacher, 1.0).gather(1, label).exp()
    named = -(known * log_probabilities(student, 1.0).gather(1, label)).mean()
    p, q = (F.softmax((x / temperature).scatter(1, label, float("-inf")), dim=1) for x in (student, teacher))
    with torch.autocast(student.device.type, enabled=False):
        price = cost.to(student.dtype).relu() + 1e-8
        kernel = (-price / regularization).exp()
        u = torch.full_like(p, 1 / (classes - 1)).scatter(1, label, 0.0)
        for _ in range(iterations):
            v = q / (u @ kernel + 1e-8)
            u = p / (v @ kernel.T + 1e-8)
        moved = (u * (v @ (kernel * price).T)).sum(dim=1)
    return named + gamma * moved.mean()


def class_costs(classifier: Classifier, kappa: float) -> Tensor:
    """What it costs to move a probability between two classes, from the rows of a network's last layer.

    Equation, with w_i the weight's row of class i, of length 1::

        cost_ij = 1 - exp(-kappa (1 - w_i w_j'))

    Args:
        classifier: the last linear layer, weight K x D.
        kappa: above 0; higher brings costs of all but the most similar classes nearer to 1.

    Returns:
        K x K, symmetric, 0 on the diagonal.

    Precision: in the weight's own, at least float32. Epsilon 1e-12 on the length of a row.

    Source: see :func:`wasserstein_logit_loss`.
    """
    rows = F.normalize(full_precision(classifier.weight), dim=1, eps=1e-12)
    return 1 - (kappa * (rows @ rows.T - 1)).exp()


class WassersteinLogits(Strategy):
    """WKD-L: probabilities of the wrong classes are compared by what it costs to move the student's to the teacher's.

    Knowledge: the class probabilities, and which classes resemble each other in the teacher: a probability on a class
    that the teacher holds to be similar costs little.

    Loss: CE(student, labels) - mean p_t(y) log p_s(y) + w gamma mean[sum flow x cost], the flow the cheapest one up to
    a regularisation from the student's softened probabilities of the wrong classes to the teacher's; w falls from 1 to
    0 along a cosine, from ``decay_from`` of the training on. Logits B x classes; cost = 1 - exp(-kappa (1 - cosine of
    the rows of the teacher's last layer)).

    Cost: 20 products of batch x classes by classes x classes, and the gradients through them; no adapters. Serves every
    pair whose logits have the same classes, and whose teacher has a single last linear layer.

    Differs from the paper: the costs come from the cosines of the last layer's rows, which the authors' code offers,
    and not from the linear CKA between the classes' features; not implemented yet. Under mixed labels the label is the
    class with the largest share.
    """

    name = "wkd_l"
    family = "response"
    paper = Paper(
        title="Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge Distillation",
        authors="Jiaming Lv, Haoyuan Yang, Peihua Li",
        year=2024,
        venue="NeurIPS 2024",
        id="2412.08139",
        code="https://github.com/JiamingLv/WKD",
    )
    signals = ("logits",)
    teacher_signals = ("logits", "classifier")
    per_sample = True
    non_negative = True

    gamma: float = param(
        600.0, "weight of the transport", ge=0.0, imagenet=30.0, search=(10.0, 1000.0), log=True, source=_SOURCE
    )
    temperature: float = param(
        8.0, "T of the transport", gt=0.0, imagenet=2.0, search=(1.0, 16.0), log=True, source=_SOURCE
    )
    kappa: float = param(1.0, "sharpens the costs", gt=0.0, search=(0.5, 4.0), log=True, source=_SOURCE)
    regularization: float = param(0.05, "how much the flow is smoothed", gt=0.0, source=_SOURCE)
    iterations: int = param(10, "of Sinkhorn's algorithm", ge=1, le=1000, source=_SOURCE)
    decay_from: float = param(
        150 / 240,
        "share of the training after which the transport's weight falls to 0; 1 for never",
        ge=0.0,
        le=1.0,
        imagenet=1.0,
        source="authors' settings, from epoch 150 of 240; for ImageNet none",
    )

    cost: Tensor

    def build(self, setup: Setup) -> None:
        """Compute the costs between the classes."""
        check_classes(self.name, setup)
        assert setup.classifier is not None
        self.register_buffer("cost", class_costs(setup.classifier, self.kappa))

    def reduce(self, teacher: Outputs) -> Outputs:
        """The logits; what is needed of the last layer is computed already."""
        return Outputs({"logits": teacher.logits})

    def reduction(self) -> dict[str, str]:
        """The logits as they are."""
        return {"logits": "logits"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``transport``, which has the label's part in it."""
        gamma = cosine_decay(batch, self.decay_from) * self.gamma
        loss = wasserstein_logit_loss(
            student.logits,
            teacher.logits,
            labels_of(batch),
            self.cost,
            gamma,
            self.temperature,
            self.regularization,
            self.iterations,
        )
        return {"transport": loss}
