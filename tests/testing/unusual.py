"""Strategies that are right and unusual: what the checks must not take for the mistakes of the gallery.

Here the base, and those on logits.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mistaken import softened
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Paper, Phase, Setup, Strategy, Terms, param


class Unusual(Strategy):
    """What all of them have."""

    paper = Paper(title="A Paper", authors="Ada Author", year=2020, venue="Nowhere", id="2001.00001")
    beta: float = param(1.0, "weight of the term", ge=0.0, search=(0.1, 10.0), log=True)


class Heavy(Unusual):
    """Its weight is too large for some learning rates, and right at others.

    Loss: CE(student, labels) + beta mean((s - t)^2), s and t the logits, B x classes.
    """

    name = "heavy"
    family = "response"
    symmetric = True
    beta: float = param(1000.0, "weight of the term", ge=0.0, search=(100.0, 1000.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"near": self.beta * F.mse_loss(student.logits.float(), teacher.logits.float())}


class Correlations(Unusual):
    """Correlations within a sample over the classes, and within a class over the batch, as DIST has them.

    Loss: CE(student, labels) + beta T^2 (1 - r(rows)) + beta T^2 (1 - r(columns)), r the mean correlation of the
    softened probabilities, logits B x classes.
    """

    name = "correlations"
    family = "relation"
    temperature: float = param(2.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)

    def correlation(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = (z - z.mean(dim=1, keepdim=True) for z in (x, y))
        return F.cosine_similarity(x, y, dim=1, eps=1e-6).mean()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (softened(outputs.logits, self.temperature).exp() for outputs in (student, teacher))
        weight = self.beta * self.temperature**2
        return {"rows": weight * (1 - self.correlation(q, p)), "columns": weight * (1 - self.correlation(q.T, p.T))}


class ClassCorrelations(Unusual):
    """The correlation over the batch of the raw logits, class by class.

    Loss: CE(student, labels) + beta mean over classes of (1 - r), r the correlation of the logits, B x classes.
    """

    name = "class-correlations"
    family = "relation"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (outputs.logits.float() - outputs.logits.float().mean(dim=0) for outputs in (student, teacher))
        return {"columns": self.beta * (1 - F.cosine_similarity(q, p, dim=0, eps=1e-6)).mean()}


class Momentum(Unusual):
    """The teacher's answers to a sample, averaged over its views.

    Loss: CE(student, labels) + beta KL(m || q), m the sample's running mean of the teacher's answers, by logits of
    B x classes.
    """

    name = "momentum-memory"
    family = "response"

    def build(self, setup: Setup) -> None:
        self.register_buffer("memory", torch.zeros(setup.num_classes, setup.num_samples))
        self.register_buffer("met", torch.zeros(setup.num_samples, dtype=torch.bool))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        p = teacher.logits.float().softmax(dim=1)
        with torch.no_grad():
            self.memory.mul_(0.999)  # what was not seen for long counts less
            old = torch.where(self.met[batch.index, None], self.memory[:, batch.index].T, p)
            target = F.normalize(0.9 * old + 0.1 * p, p=1, dim=1)
            self.memory[:, batch.index], self.met[batch.index] = target.T, True
        q = softened(student.logits, 1.0)
        return {"steady": self.beta * F.kl_div(q, target, reduction="batchmean")}


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


class HarderTemperature(Unusual):
    """A temperature that learns to make it harder, by a reversed gradient that grows with the progress.

    Loss: CE(student, labels) + beta KL(p || q) at the learned temperature, summed over classes, logits B x classes.
    """

    name = "harder-temperature"
    family = "response"

    def build(self, setup: Setup) -> None:
        self.hot = nn.Parameter(torch.ones(1))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        hot = 1 + 20 * torch.sigmoid(_Reverse.apply(self.hot, batch.progress))
        q, p = (F.log_softmax(outputs.logits.float() / hot, dim=1) for outputs in (student, teacher))
        return {"kd": self.beta * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class Decoupled(Unusual):
    """The class of the label and the others apart, as DKD has them.

    Loss: CE(student, labels) + beta T^2 (TCKD + nckd NCKD), divergences of softened logits, B x classes.
    """

    name = "decoupled"
    family = "response"
    temperature: float = param(4.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)
    nckd: float = param(8.0, "weight of the classes that are not the label", ge=0.0, search=(1.0, 16.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (softened(outputs.logits, self.temperature) for outputs in (student, teacher))
        label = batch.labels[:, None]
        others = torch.ones_like(q, dtype=torch.bool).scatter(1, label, False)

        def split(x: Tensor) -> tuple[Tensor, Tensor]:
            rest = x[others].view(len(x), -1)
            both = torch.cat([x.gather(1, label), rest.logsumexp(dim=1, keepdim=True)], dim=1)
            return both, rest.log_softmax(dim=1)

        (q_both, q_rest), (p_both, p_rest) = split(q), split(p)
        whole = F.kl_div(q_both, p_both, reduction="batchmean", log_target=True)
        whole = whole + self.nckd * F.kl_div(q_rest, p_rest, reduction="batchmean", log_target=True)
        return {"dkd": self.beta * self.temperature**2 * whole}


class Gated(Unusual):
    """Only where the teacher is right and sure, and a mean over those samples.

    Loss: CE(student, labels) + beta mean over the gated samples of KL(p || q), summed over classes; logits B x classes.
    """

    name = "gated"
    family = "response"
    least: float = param(0.5, "probability of the label from which on", ge=0.0, lt=1.0, search=(0.1, 0.9))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (softened(outputs.logits, 1.0) for outputs in (student, teacher))
        gate = (p.exp().gather(1, batch.labels[:, None]).squeeze(1) > self.least).float()
        each = F.kl_div(q, p, reduction="none", log_target=True).sum(dim=1)
        return {"kd": self.beta * (gate * each).sum() / gate.sum().clamp(min=1.0)}


class ScaleFree(Unusual):
    """Logits are standardised for each sample, so that their scale makes no difference.

    Loss: CE(student, labels) + beta T^2 KL(p || q) of softmax(z / T), z the standardised logits, B x classes.
    """

    name = "scale-free"
    family = "response"
    temperature: float = param(2.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (softened(self.standard(outputs.logits.float()), self.temperature) for outputs in (student, teacher))
        loss = F.kl_div(q, p, reduction="batchmean", log_target=True)
        return {"kd": self.beta * self.temperature**2 * loss}

    def standard(self, z: Tensor) -> Tensor:
        z = z - z.mean(dim=1, keepdim=True)
        return z / (z.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()


class WarmsUp(Unusual):
    """The weight rises with the progress, in a second phase that follows one of labels alone.

    Loss: CE(student, labels), and after the first phase + beta progress KL(p || q), summed over the classes; logits
    B x classes.
    """

    name = "warms-up"
    family = "response"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("labels", 1, teacher=False), Phase("both", epochs - 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        if batch.phase == "labels":
            return {}
        q, p = softened(student.logits, 1.0), softened(teacher.logits, 1.0)
        return {"kd": self.beta * batch.progress * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class TwoViews(Unusual):
    """Two views of a sample follow the mean of the teacher's answers to both.

    Loss: CE(student, labels) + beta KL(p || q), p the mean of both answers, summed over the classes; logits
    B x classes.
    """

    name = "views-agree"
    family = "response"
    views = 2

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        first, second = teacher.logits.float().softmax(dim=1).chunk(2)
        target = ((first + second) / 2).repeat(2, 1)
        return {"kd": self.beta * F.kl_div(softened(student.logits, 1.0), target, reduction="batchmean")}


class ViewsByParameter(TwoViews):
    """Two views of a sample, or one, as a parameter says.

    Loss: CE(student, labels) + beta KL(p || q), p the mean of both answers, summed over the classes; logits
    B x classes.
    """

    name = "views-by-parameter"
    views = 1
    twice: bool = param(True, "two views of each sample")

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.views = 2 if self.twice else 1


class NoSquare(Unusual):
    """It leaves the square of the temperature out, as its docstring says.

    Loss: CE(student, labels) + beta KL(p || q) at T, summed over the classes, without the T^2 of the paper; logits
    B x classes.
    """

    name = "no-square"
    family = "response"
    temperature: float = param(4.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (softened(outputs.logits, self.temperature) for outputs in (student, teacher))
        return {"kd": self.beta * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class OverTheSamples(Unusual):
    """Which samples a class finds most likely.

    Loss: CE(student, labels) + beta KL(p || q), p and q the softmax over the samples of each class's logits, summed
    over the samples, mean over the classes; logits B x classes.
    """

    name = "over-the-samples"
    family = "relation"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (outputs.logits.float().T.log_softmax(dim=1) for outputs in (student, teacher))
        return {"samples": self.beta * F.kl_div(q, p, reduction="batchmean", log_target=True)}
