"""Strategies that are right and unusual: what the checks must not take for the mistakes of the gallery."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mistaken import softened
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, param


class Unusual(Strategy):
    """What all of them have."""

    paper = Paper(title="A Paper", authors="Ada Author", year=2020, venue="Nowhere", id="2001.00001")
    beta: float = param(1.0, "weight of the term", ge=0.0, search=(0.1, 10.0), log=True)


class NegativeCosine(Unusual):
    """The loss is below 0, and smallest where the directions agree.

    Loss: CE(student, labels) - beta mean cos(W s, t), s and t the embeddings, B x D.
    """

    name = "negative-cosine"
    family = "feature"
    signals = ("embedding",)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return {"cosine": -self.beta * F.cosine_similarity(own, theirs, dim=1).mean()}


class CentredCosine(Unusual):
    """The correlation of the pooled channels of each paired stage, negative, with a large weight.

    Loss: CE(student, labels) - beta sum over pairs of cos(W s - mean, t - mean), B x C stages averaged over positions.
    """

    name = "centred-cosine"
    family = "feature"
    signals = ("stages",)
    beta: float = param(30.0, "weight of the term", ge=0.0, search=(1.0, 100.0), log=True)

    def build(self, setup: Setup) -> None:
        self.adapters = nn.ModuleList(nn.Linear(s.channels, t.channels, bias=False) for s, t in setup.paired_shapes())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        whole = []
        for adapter, (i, j) in zip(self.adapters, self.setup.stage_pairs, strict=True):
            own = adapter(student.stages[i].mean(dim=(2, 3))).float()
            theirs = teacher.stages[j].float().mean(dim=(2, 3))
            own, theirs = (x - x.mean(dim=1, keepdim=True) for x in (own, theirs))
            whole.append(F.cosine_similarity(own, theirs, dim=1, eps=1e-4).mean())
        return {"cosine": -self.beta * torch.stack(whole).sum()}


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


class Probabilistic(Unusual):
    """Probabilistic knowledge transfer, as its paper has it.

    Loss: CE(student, labels) + beta mean over samples of KL(p_t || p_s), p the similarities of a sample to the others
    as a distribution, of the embeddings, B x D.
    """

    name = "probabilistic"
    family = "relation"
    signals = ("embedding",)

    def alike(self, x: Tensor) -> Tensor:
        x = F.normalize(x.float(), dim=1)
        with torch.autocast(x.device.type, enabled=False):
            kernel = (x @ x.T + 1) / 2
        return kernel / kernel.sum(dim=1, keepdim=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = self.alike(student.embedding), self.alike(teacher.embedding)
        loss = theirs * ((theirs + 1e-7) / (own + 1e-7)).log()
        return {"pkt": self.beta * loss.sum(dim=1).mean()}


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


class Contrastive(Unusual):
    """A memory of the teacher's embeddings by sample, from which negatives are drawn at each step.

    Loss: CE(student, labels) + beta cross-entropy of the own one among negatives, embeddings B x D.
    """

    name = "contrastive-memory"
    family = "contrastive"
    signals = ("embedding",)
    stochastic = True
    negatives: int = param(16, "drawn from the memory", ge=1)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.register_buffer("memory", F.normalize(torch.randn(setup.num_samples, setup.teacher.embedding), dim=1))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = F.normalize(self.adapter(student.embedding).float(), dim=1)
        theirs = F.normalize(teacher.embedding.float(), dim=1)
        drawn = torch.randint(len(self.memory), (len(own), self.negatives), device=own.device)
        others = torch.cat([theirs[:, None], self.memory[drawn]], dim=1)
        with torch.autocast(own.device.type, enabled=False):
            scores = (others @ own[:, :, None]).squeeze(2) / 0.1
        with torch.no_grad():
            self.memory[batch.index] = F.normalize(0.5 * self.memory[batch.index] + 0.5 * theirs, dim=1)
        return {"contrast": self.beta * F.cross_entropy(scores, torch.zeros_like(batch.labels))}


class Queued(Unusual):
    """A queue of the last teacher's embeddings, as long as the training samples are many.

    Loss: CE(student, labels) + beta cross-entropy of two distributions over the queue, embeddings B x D.
    """

    name = "queue"
    family = "contrastive"
    signals = ("embedding",)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.register_buffer("queue", F.normalize(torch.randn(setup.num_samples, setup.teacher.embedding), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = F.normalize(self.adapter(student.embedding).float(), dim=1)
        theirs = F.normalize(teacher.embedding.float(), dim=1)
        with torch.no_grad():
            rows = (self.place + torch.arange(len(theirs), device=theirs.device)) % len(self.queue)
            self.queue[rows] = theirs
            self.place.add_(len(theirs)).remainder_(len(self.queue))
        with torch.autocast(own.device.type, enabled=False):
            q, p = (x @ self.queue.T.clone() / 0.1 for x in (own, theirs))
        return {"queue": self.beta * F.cross_entropy(q, p.softmax(dim=1))}


class Masked(Unusual):
    """Half of the positions are masked at random, and generated from the rest.

    Loss: CE(student, labels) + beta mean((G(W s * mask) - t)^2), s and t the deepest paired stages, B x C x H x W.
    """

    name = "masked-generation"
    family = "feature"
    signals = ("stages",)
    stochastic = True

    def build(self, setup: Setup) -> None:
        own, theirs = setup.paired_shapes()[-1]
        self.adapter = nn.Conv2d(own.channels, theirs.channels, 1)
        self.generate = nn.Sequential(
            nn.Conv2d(theirs.channels, theirs.channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(theirs.channels, theirs.channels, 3, padding=1),
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        i, j = self.setup.stage_pairs[-1]
        theirs = teacher.stages[j].float()
        own = F.interpolate(self.adapter(student.stages[i]), theirs.shape[2:])
        mask = (torch.rand(len(own), 1, *own.shape[2:], device=own.device) > 0.5).to(own.dtype)
        return {"masked": self.beta * F.mse_loss(self.generate(own * mask).float(), theirs)}


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


class ReusedClassifier(Unusual):
    """A projector in front of the teacher's classifier, by which the student predicts, as SimKD has it.

    Loss: beta mean((P s - t)^2) alone, s and t the embeddings, B x D; the classifier is the teacher's, classes x D.
    """

    name = "reused-classifier"
    family = "feature"
    signals = ("embedding",)
    teacher_signals = ("embedding", "classifier")
    deployed = ("projector", "head")
    ce_weight = 0.0

    def build(self, setup: Setup) -> None:
        weight, bias = setup.classifier
        self.projector = nn.Sequential(
            nn.Linear(setup.student.embedding, setup.teacher.embedding),
            nn.LayerNorm(setup.teacher.embedding),
            nn.ReLU(),
        )
        self.head = nn.Linear(setup.teacher.embedding, setup.num_classes, bias=bias is not None).requires_grad_(False)
        self.head.weight.copy_(weight)
        if bias is not None:
            self.head.bias.copy_(bias)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"near": self.beta * F.mse_loss(self.projector(student.embedding).float(), teacher.embedding.float())}

    def predict(self, student: Outputs) -> Tensor:
        return self.head(self.projector(student.embedding))


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


class ManyToOne(Unusual):
    """Every stage of the student learns from the teacher's deepest one, with learned weights.

    Loss: CE(student, labels) + beta sum over the student's stages of a mean((W s - t)^2), a = softmax of learned
    numbers, stages averaged over positions, B x C.
    """

    name = "many-to-one"
    family = "feature"
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        if not setup.teacher.stages:
            raise PairError("many-to-one needs a stage of the teacher")
        width = setup.teacher.stages[-1].channels
        self.adapters = nn.ModuleList(nn.Linear(stage.channels, width) for stage in setup.student.stages)
        self.shares = nn.Parameter(torch.zeros(len(setup.student.stages)))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        theirs = teacher.stages[-1].float().mean(dim=(2, 3))
        gaps = [
            F.mse_loss(adapter(own.mean(dim=(2, 3))).float(), theirs)
            for adapter, own in zip(self.adapters, student.stages, strict=True)
        ]
        return {"stages": self.beta * (self.shares.softmax(dim=0) * torch.stack(gaps)).sum()}


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


def all_unusual() -> list[type[Unusual]]:
    """Every strategy of this file."""
    found = [each for each in globals().values() if isinstance(each, type) and issubclass(each, Unusual)]
    return [each for each in found if each is not Unusual]
