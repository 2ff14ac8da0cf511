"""DeiT's distillation token: one head of the student learns the labels, another one the teacher's answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.tensors import full_precision


class DistillationToken(Strategy):
    """DeiT: the class head learns the labels, the distillation head the class that the teacher gives.

    Knowledge: the teacher's answer, the class with its largest logit; or its soft targets.

    Loss: (1 - alpha) CE(c, labels) + alpha CE(d, argmax of the teacher's logits), c and d the logits of the student's
    class head and distillation head, B x classes. With a temperature T above 0, the second term is alpha T^2 KL of the
    softened answers of teacher and d. The student predicts by the mean of both heads' logits.

    Cost: none beside the teacher. Serves students with a distillation head beside the class head, such as timm's
    distilled DeiT and PiT (a token each), LeViT, EfficientFormer and RepViT (two heads on one feature); others are
    refused. Any teacher of the same classes.

    Differs from the paper: the logits of the heads are averaged at inference, as in the authors' model; the paper's
    text adds their softmaxes. The soft form (the paper's has T 3 and alpha 0.1, on one head) is the mean over samples,
    while the authors' code divides by classes too, so that their alpha counts less.
    """

    name = "deit"
    family = "response"
    paper = Paper(
        title="Training data-efficient image transformers & distillation through attention",
        authors="Hugo Touvron, Matthieu Cord, Matthijs Douze, Francisco Massa, Alexandre Sablayrolles, Herve Jegou",
        year=2021,
        venue="ICML 2021",
        id="2012.12877",
        code="https://github.com/facebookresearch/deit",
    )
    signals = ("heads",)
    teacher_signals = ("logits",)
    per_sample = True
    non_negative = True

    alpha: float = param(
        0.5,
        "weight of the distillation head's loss; the class head's has 1 - alpha",
        source="authors' code",
        ge=0.0,
        le=1.0,
        search=(0.1, 0.9),
    )
    temperature: float = param(
        0.0, "0: the teacher's hard answer; else soft targets at this temperature", source="authors' code", ge=0.0
    )

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """Of the class head's loss."""
        return 1 - self.alpha

    def build(self, setup: Setup) -> None:
        """Refuse students without a distillation head."""
        heads = setup.student.heads
        if len(heads) != 2 or "dist" not in heads[1]:
            raise PairError(
                f"deit needs a student with a class head and a distillation head, and this one has "
                f"{', '.join(heads)}: choose one such as deit_tiny_distilled_patch16_224"
            )
        check_classes(self.name, setup)

    def hard_label_logits(self, student: Outputs) -> Tensor:
        """Those of the class head."""
        return student.heads[0]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``answer`` or ``soft``."""
        own = student.heads[1]
        if self.temperature:
            return {"soft": self.alpha * soft_target_loss(own, teacher.logits, self.temperature)}
        return {"answer": self.alpha * F.cross_entropy(full_precision(own), teacher.logits.argmax(dim=1))}
