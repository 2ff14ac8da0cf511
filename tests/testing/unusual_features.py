"""Unusual strategies that are right, on features: embeddings, stages, memories of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unusual import Unusual

from kdzoo import Batch, Outputs, PairError, Setup, Terms, param


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


class ActivationMaps(Unusual):
    """The last linear layers at every position of the last maps, of networks whose heads only pool in between.

    Loss: CE(student, labels) + beta mean((a - b)^2), a and b = stages W', B x classes x H x W, averaged to one size;
    W is the weight of the classifier.
    """

    name = "activation-maps"
    family = "feature"
    signals = ("stages", "classifier")

    def build(self, setup: Setup) -> None:
        if not (setup.student.head_pools and setup.teacher.head_pools):
            raise PairError("activation-maps needs heads that pool the last map: choose ResNets")
        student, teacher = setup.student.stages[-1], setup.teacher.stages[-1]
        self.size = min(student.height, teacher.height), min(student.width, teacher.width)

    def maps(self, outputs: Outputs) -> Tensor:
        """B x classes x H x W."""
        pooled = F.adaptive_avg_pool2d(outputs.stages[-1].float(), self.size)
        return F.conv2d(pooled, outputs.classifier.weight.float()[:, :, None, None])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"maps": self.beta * F.mse_loss(self.maps(student), self.maps(teacher))}
