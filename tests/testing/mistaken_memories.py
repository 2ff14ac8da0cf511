"""Memories and predictions as they stand in public code, each with one mistake."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from mistaken import Mistaken
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Setup, Terms


class Remembers(Mistaken):
    """The teacher's answers to all views of a sample, averaged.

    Loss: CE(student, labels) + beta CE(student, m), m the running mean of the sample's answers, by logits of
    B x classes.
    """

    name = "remembers"
    family = "response"

    def build(self, setup: Setup) -> None:
        self.register_buffer("memory", torch.full((setup.num_samples, setup.num_classes), 1 / setup.num_classes))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        rows = self.rows(batch)
        with torch.no_grad():
            self.memory[rows] = 0.9 * self.memory[rows] + 0.1 * teacher.logits.float().softmax(dim=1)
        target = self.memory[self.asked(batch)].clone()
        return {"steady": self.beta * F.cross_entropy(student.logits.float(), target)}

    def rows(self, batch: Batch) -> Tensor:
        return batch.index

    def asked(self, batch: Batch) -> Tensor:
        return batch.index


class WritesByRow(Remembers):
    """It writes by the place in the batch, and reads by the sample."""

    name = "writes-by-row"
    caught_by = "memory-rows"
    also = frozenset({"batch-order"})

    def rows(self, batch: Batch) -> Tensor:
        return torch.arange(len(batch.index), device=batch.index.device)


class ReadsByRow(Remembers):
    """It writes by the sample, and reads by the place in the batch."""

    name = "reads-by-row"
    caught_by = "batch-order"

    def asked(self, batch: Batch) -> Tensor:
        return torch.arange(len(batch.index), device=batch.index.device)


class BothByRow(Remembers):
    """It writes and reads by the place in the batch."""

    name = "both-by-row"
    caught_by = "memory-rows"
    also = frozenset({"batch-order"})

    def rows(self, batch: Batch) -> Tensor:
        return torch.arange(len(batch.index), device=batch.index.device)

    def asked(self, batch: Batch) -> Tensor:
        return self.rows(batch)


class IndexIsAPlace(Remembers):
    """It takes the sample's number for a place in the batch."""

    name = "index-is-a-place"
    caught_by = "memory-rows"
    also = frozenset({"batch-order"})

    def rows(self, batch: Batch) -> Tensor:
        return batch.index % len(batch.index)

    def asked(self, batch: Batch) -> Tensor:
        return self.rows(batch)


class NegativesByRow(Mistaken):
    """It writes by the place in the batch to the memory from which negatives are drawn.

    Loss: CE(student, labels) + beta cross-entropy of the own one among negatives, embeddings B x D.
    """

    name = "negatives-by-row"
    caught_by = "memory-rows"
    family = "contrastive"
    signals = ("embedding",)
    stochastic = True

    def build(self, setup: Setup) -> None:
        self.adapter = nn.Linear(setup.student.embedding, setup.teacher.embedding)
        self.register_buffer("memory", F.normalize(torch.randn(setup.num_samples, setup.teacher.embedding), dim=1))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = F.normalize(self.adapter(student.embedding).float(), dim=1)
        theirs = F.normalize(teacher.embedding.float(), dim=1)
        drawn = torch.randint(len(self.memory), (len(own), 16), device=own.device)
        others = torch.cat([theirs[:, None], self.memory[drawn]], dim=1)
        with torch.autocast(own.device.type, enabled=False):
            scores = (others @ own[:, :, None]).squeeze(2) / 0.1
        with torch.no_grad():
            self.memory[: len(theirs)] = theirs
        return {"contrast": self.beta * F.cross_entropy(scores, torch.zeros_like(batch.labels))}


class ForgetsOnResume(Remembers):
    """Its memory is a dict that no checkpoint holds."""

    name = "forgets-on-resume"
    caught_by = "checkpoint"

    def build(self, setup: Setup) -> None:
        self.answers: dict[int, list[float]] = {}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        target = teacher.logits.float().softmax(dim=1)
        old = [self.answers.get(int(each), row.tolist()) for each, row in zip(batch.index, target, strict=True)]
        target = 0.9 * torch.tensor(old, device=target.device, dtype=target.dtype) + 0.1 * target
        self.answers.update(zip(batch.index.tolist(), target.tolist(), strict=True))
        return {"steady": self.beta * F.cross_entropy(student.logits.float(), target)}


class KeepsInTheClass(Mistaken):
    """Its fixed random projection is drawn once for all trainings of a process: the first one's seed decides.

    Loss: CE(student, labels) + beta mean((R s - R t)^2), R a fixed random projection of the logits, B x classes.
    """

    name = "keeps-in-the-class"
    caught_by = "other-process"
    drawn: ClassVar[dict[int, Tensor]] = {}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = student.logits.float(), teacher.logits.float()
        width = own.shape[1]
        if width not in self.drawn:
            self.drawn[width] = torch.randn(width, 16)
        sides = self.drawn[width].to(own)
        return {"near": self.beta * F.mse_loss(own @ sides, theirs @ sides)}


class PredictsByTheBatch(Mistaken):
    """Its predictions are standardised over the batch, when it is measured too.

    Loss: CE(student, labels) + beta mean((s - t)^2), s and t the logits, B x classes.
    """

    name = "predicts-by-the-batch"
    caught_by = "predict"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"near": self.beta * F.mse_loss(student.logits.float(), teacher.logits.float())}

    def predict(self, student: Outputs) -> Tensor:
        return student.logits - student.logits.mean(dim=0)


class PredictsByChance(PredictsByTheBatch):
    """Its dropout is on when it is measured."""

    name = "predicts-by-chance"
    caught_by = "predict"

    def predict(self, student: Outputs) -> Tensor:
        return F.dropout(student.logits, 0.2)


class LastBatch(Mistaken):
    """It compares with the batch before, and takes it to be as large.

    Loss: CE(student, labels) + beta mean((s - t)^2) + the change since the last batch; logits B x classes.
    """

    name = "last-batch"
    caught_by = "partial-batch"
    also = frozenset({"batch-order"})

    def build(self, setup: Setup) -> None:
        self.register_buffer("before", torch.zeros(0, setup.num_classes))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = student.logits.float(), teacher.logits.float()
        if len(self.before):
            theirs = 0.5 * theirs + 0.5 * self.before
        self.before = teacher.logits.float().detach().clone()
        return {"near": self.beta * F.mse_loss(own, theirs)}


class LateAdapter(Mistaken):
    """Its adapter is made when it is first used, so the optimizer does not know it.

    Loss: CE(student, labels) + beta mean((W s - t)^2), s and t the embeddings, B x D.
    """

    name = "made-late"
    caught_by = "registered"
    also = frozenset({"stochastic"})
    signals = ("embedding",)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = student.embedding, teacher.embedding
        if not hasattr(self, "adapter"):
            self.adapter = nn.Linear(own.shape[1], theirs.shape[1]).to(own.device)
        return {"near": self.beta * F.mse_loss(self.adapter(own).float(), theirs.float())}
