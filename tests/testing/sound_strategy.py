"""A strategy that keeps to everything; those in the files ``broken_*`` are the same with one mistake each.

``caught_by`` names the check that is meant for the mistake; ``also`` those that may fail with it. The ``classic`` ones
have spoilt published results; of those that only waste something the kit ``warns``.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL divergence of the softened probabilities.

    Equation: loss = T^2 mean_b sum_c p_t (log p_t - log p_s)

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes.
        temperature: above 0.

    Example:
        >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2), 1.0)
        tensor(0.)
    """
    log_s = F.log_softmax(student_logits.float() / temperature, dim=1)
    log_t = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)


class Sound(Strategy):
    """The divergence of the logits, and an adapted embedding near the teacher's.

    Loss: CE + beta KL + mean((W s - t)^2), s and t the embeddings, B x D.
    """

    name = "sound"
    family = "response"
    paper = Paper(title="A Paper", authors="Ada Author", year=2020, venue="Nowhere", id="2001.00001")
    signals = ("logits", "embedding")
    non_negative = True

    caught_by: ClassVar[str] = ""
    warns: ClassVar[bool] = False
    classic: ClassVar[bool] = False
    also: ClassVar[frozenset[str]] = frozenset()

    temperature: float = param(4.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)
    beta: float = param(1.0, "weight", ge=0.0, search=(0.1, 10.0), log=True)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        with torch.no_grad():
            self.seen[batch.index] += 1
        return {"kd": self.beta * self.compare(student, teacher), "near": self.follow(student, teacher)}

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(student.logits, teacher.logits, self.temperature)

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.float())
