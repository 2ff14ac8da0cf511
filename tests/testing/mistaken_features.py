"""Losses on features as they stand in public code, each with one mistake."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mistaken import Mistaken
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Setup, Terms


class Adapted(Mistaken):
    """A linear map of the student's embedding is near the teacher's.

    Loss: CE(student, labels) + beta mean((W s - t)^2), s and t the embeddings, B x D.
    """

    name = "adapted"
    family = "feature"
    signals = ("embedding",)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"near": self.beta * F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.float())}


class NewAdapter(Adapted):
    """Its adapter is made anew at each call."""

    name = "new-adapter"
    caught_by = "registered"
    also = frozenset({"stochastic"})

    def build(self, setup: Setup) -> None:
        pass

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = student.embedding, teacher.embedding
        adapter = nn.Linear(own.shape[1], theirs.shape[1], device=own.device)
        return {"near": self.beta * F.mse_loss(adapter(own).float(), theirs.float())}


class NewProjection(Adapted):
    """Its random projection is drawn again at each step.

    Loss: CE(student, labels) + beta mean((R s - Q t)^2), R and Q fixed random projections of the embeddings, B x D.
    """

    name = "new-projection"
    caught_by = "stochastic"

    def build(self, setup: Setup) -> None:
        pass

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = student.embedding.float(), teacher.embedding.float()
        sides = [torch.randn(x.shape[1], 16, device=x.device) / x.shape[1] ** 0.5 for x in (own, theirs)]
        return {"near": self.beta * F.mse_loss(own @ sides[0], theirs @ sides[1])}


class SwappedRelations(Adapted):
    """Probabilistic knowledge transfer with student and teacher swapped.

    Loss: CE(student, labels) + beta sum p_t log(p_t / p_s), p the similarities of a sample to the others as a
    distribution, of the embeddings, B x D.
    """

    name = "swapped-relations"
    caught_by = "argument-order"
    family = "relation"

    def build(self, setup: Setup) -> None:
        pass

    def alike(self, x: Tensor) -> Tensor:
        x = F.normalize(x.float(), dim=1)
        with torch.autocast(x.device.type, enabled=False):
            kernel = (x @ x.T + 1) / 2
        return (kernel / kernel.sum(dim=1, keepdim=True)).float()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = self.alike(student.embedding), self.alike(teacher.embedding)
        loss = own * ((own + 1e-7) / (theirs + 1e-7)).log()
        return {"pkt": self.beta * loss.sum(dim=1).mean()}


class SwappedPositions(Adapted):
    """Channel-wise distillation with student and teacher swapped.

    Loss: CE(student, labels) + beta KL(p || q), softmax over the positions of each channel of the stages,
    B x C x H x W.
    """

    name = "swapped-positions"
    caught_by = "argument-order"
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        own, theirs = setup.paired_shapes()[0]
        self.adapter = nn.Conv2d(own.channels, theirs.channels, 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        i, j = self.setup.stage_pairs[0]
        theirs = teacher.stages[j].float()
        own = F.interpolate(self.adapter(student.stages[i]).float(), theirs.shape[2:], mode="bilinear")
        q, p = (x.flatten(2).flatten(0, 1).log_softmax(dim=1) for x in (own, theirs))
        return {"cwd": self.beta * F.kl_div(p, q, reduction="batchmean", log_target=True)}


class NormalisedOverTheBatch(Adapted):
    """It divides each feature by its length over the batch.

    Loss: CE(student, labels) + beta mean((s / |s| - t / |t|)^2), the embeddings, B x D, each of length 1.
    """

    name = "normalised-over-the-batch"
    caught_by = "across-samples"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return {"near": self.beta * F.mse_loss(F.normalize(own, dim=0), F.normalize(theirs, dim=0), reduction="sum")}


class BothAdapt(Adapted):
    """Both sides have an adapter, and both learn to be 0.

    Loss: CE(student, labels) + beta mean((W s - V t)^2), s and t the embeddings, B x D.
    """

    name = "both-adapt"
    caught_by = "goal"

    def build(self, setup: Setup) -> None:
        self.own = nn.Linear(setup.student.embedding, 16)
        self.theirs = nn.Linear(setup.teacher.embedding, 16)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = self.own(student.embedding).float(), self.theirs(teacher.embedding).float()
        return {"near": self.beta * F.mse_loss(own, theirs)}


class PlainTensor(Adapted):
    """Its adapter is a tensor that asks for gradients, and no parameter."""

    name = "plain-tensor"
    caught_by = "registered"

    def build(self, setup: Setup) -> None:
        self.weight = torch.randn(setup.student.embedding, setup.teacher.embedding, requires_grad=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"near": self.beta * F.mse_loss(student.embedding.float() @ self.weight, teacher.embedding.float())}


class CutsInPlace(Adapted):
    """It cuts the student's features off in place."""

    name = "cuts-in-place"
    caught_by = "gradient-teacher"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = student.embedding.detach().clamp_(min=0) + (student.embedding - student.embedding.detach())
        return {"near": self.beta * F.mse_loss(self.adapter(own).float(), teacher.embedding.float())}


class PairsFromTheInput(Adapted):
    """It pairs stages by their numbers from the input.

    Loss: CE(student, labels) + beta mean over paired stages of mean((W s - t)^2), B x C averaged over positions.
    """

    name = "pairs-from-the-input"
    caught_by = "unequal-stages"
    warns = True
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        shapes = zip(setup.student.stages, setup.teacher.stages, strict=False)
        self.adapters = nn.ModuleList(nn.Linear(own.channels, theirs.channels) for own, theirs in shapes)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        losses = [
            F.mse_loss(adapter(own.mean(dim=(2, 3))).float(), theirs.float().mean(dim=(2, 3)))
            for adapter, own, theirs in zip(self.adapters, student.stages, teacher.stages, strict=False)
        ]
        return {"stages": self.beta * torch.stack(losses).mean()}


class CountsItsAdapter(Adapted):
    """Its adapter is counted in the student, who does not predict by it."""

    name = "counts-its-adapter"
    caught_by = "predict"
    deployed = ("adapter",)


class SumsMaps(Adapted):
    """It sums over samples, channels and positions.

    Loss: CE(student, labels) + beta mean of (s - t)^2, s and t the stages, averaged over B x C.
    """

    name = "sums-maps"
    caught_by = "batch-size"
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        pass

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        i, j = self.setup.stage_pairs[0]
        own, theirs = (x.float().abs().mean(dim=(1, 2, 3)) for x in (student.stages[i], teacher.stages[j]))
        return {"maps": self.beta * F.mse_loss(own, theirs, reduction="sum")}


class EightByEight(Adapted):
    """It takes the first map to have 8 x 8 positions.

    Loss: CE(student, labels) + beta mean((a - b)^2), a and b stages averaged over C and mapped linearly, B x H x W.
    """

    name = "eight-by-eight"
    caught_by = "unequal-sizes"
    also = frozenset({"unequal-stages"})
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(64, 64)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = (x.stages[0].float().abs().mean(dim=1).flatten(1) for x in (student, teacher))
        return {"maps": self.beta * F.mse_loss(self.adapter(own).float(), theirs)}


class MixesPositions(Adapted):
    """It reshapes where it should transpose: positions and channels are mixed up.

    Loss: CE(student, labels) + beta mean((G_s - G_t)^2), G the products of all pairs of positions of a stage,
    B x HW x HW, averaged over C.
    """

    name = "mixes-positions"
    signals = ("stages",)

    def build(self, setup: Setup) -> None:
        pass

    def products(self, x: Tensor, size: list[int]) -> Tensor:
        x = F.adaptive_avg_pool2d(x.float(), size)
        positions = x.reshape(len(x), x.shape[2] * x.shape[3], x.shape[1])
        return positions @ positions.mT / x.shape[1]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        i, j = self.setup.stage_pairs[0]
        own, theirs = student.stages[i], teacher.stages[j]
        size = [min(one, other) for one, other in zip(own.shape[2:], theirs.shape[2:], strict=True)]
        return {"products": self.beta * F.mse_loss(self.products(own, size), self.products(theirs, size))}
