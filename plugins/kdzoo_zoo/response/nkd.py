"""Normalised distillation: the label by its own term, the other classes normalised among themselves."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import cross_entropy, label_loss, labels_of
from kdzoo_zoo.tensors import check_same


def normalized_knowledge_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, gamma: float, temperature: float
) -> Tensor:
    """Cross-entropies with the teacher, of the label and of the other classes.

    Equation, with T = ``temperature``, y = ``target``, p = softmax(logits)::

        q = softmax over the classes other than y of logits / T
        loss = mean_b [- p_t(y) log p_s(y) - gamma T^2 sum over c other than y of q_t log q_s]

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes. Not detached: pass it without gradient.
        target: B, int64, the labels.
        gamma: weight of the other classes.
        temperature: of the other classes, above 0.

    Returns:
        A scalar, at least 0: summed over classes, mean over the batch. Not 0 at equal networks: the teacher's entropy
        is in it.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too; log-softmax,
    no epsilon.

    Source: Yang, Zeng, Li, Zhang, Yuan, Li, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified
    Approach with Normalized Loss and Customized Soft Labels", ICCV 2023, arXiv 2303.13005. Authors' code:
    https://github.com/yzd-v/cls_KD.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 3)  # log 3 / 3 + log 2
        >>> normalized_knowledge_loss(logits, logits, torch.tensor([0]), gamma=1.0, temperature=1.0)
        tensor(1.0594)
    """
    check_same("logits", student_logits, teacher_logits)
    label = (-label_loss(teacher_logits, target)).exp() * label_loss(student_logits, target)
    others = cross_entropy(student_logits, teacher_logits, temperature, temperature, besides=target).distance
    return (label + gamma * temperature**2 * others).mean()


class NormalizedKD(Strategy):
    """Normalised distillation: the other classes count alike in every sample, whatever is left of the label.

    Knowledge: the teacher's probability of the label, and how the rest is divided among the other classes.

    Loss: CE(student, labels) - mean of p_t(y) log p_s(y) - gamma T^2 mean of sum over the other classes of q_t log q_s,
    q the softmax over the other classes at T, p that over all at 1, logits B x classes.

    Cost: three softmaxes; no adapters. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing in the loss. Under mixed labels the label is the class with the largest share, as
    in the authors' code. For transformers on ImageNet the authors set gamma to 1.
    """

    name = "nkd"
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
    signals = ("logits",)
    per_sample = True
    non_negative = True

    gamma: float = param(
        3.5,
        "weight of the other classes",
        ge=0.0,
        imagenet=1.5,
        search=(0.1, 10.0),
        log=True,
        source="the authors' configs: ResNet-34 to ResNet-18 on CIFAR-100; ImageNet: CNNs",
    )
    temperature: float = param(
        3.0,
        "T, divides the logits of the other classes: higher is softer",
        gt=0.0,
        imagenet=1.0,
        search=(1.0, 8.0),
        log=True,
        source="the authors' configs: ResNet-34 to ResNet-18 on CIFAR-100; ImageNet: CNNs",
    )

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``nkd``."""
        loss = normalized_knowledge_loss(student.logits, teacher.logits, labels_of(batch), self.gamma, self.temperature)
        return {"nkd": loss}
