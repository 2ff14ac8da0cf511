"""Mistakes in the loss itself: in its terms, its claims, its precision, and in what it depends on."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from sound_strategy import Sound
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Setup, Terms


class DependsOnOrder(Sound):
    """It compares each sample with the one before it."""

    name = "depends-on-order"
    classic = True
    caught_by = "batch-order"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.float().roll(1, dims=0))


class SumsOverBatch(Sound):
    """It sums where it should average."""

    name = "sums-over-batch"
    classic = True
    caught_by = "batch-size"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return 0.01 * (self.adapter(student.embedding).float() - teacher.embedding.float()).square().sum()


class HalfPrecision(Sound):
    """Its term has the precision of the signals."""

    name = "half-precision"
    caught_by = "float32"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (self.adapter(student.embedding) - teacher.embedding).square().mean()


class OwnGenerator(Sound):
    """Its generator is seeded by the clock."""

    name = "own-generator"
    classic = True
    caught_by = "repeatable"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.draw = random.Random()

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (0.5 + self.draw.random()) * super().compare(student, teacher)


class SetsTheSeed(Sound):
    """It draws the same numbers at every step."""

    name = "sets-the-seed"
    caught_by = "repeatable"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        torch.manual_seed(0)
        return super().compare(student, teacher) * (1 + torch.rand(()))


class ClaimsZero(Sound):
    """A random adapter is not at its target where the networks are equal."""

    name = "claims-zero"
    zero_when_equal = True
    caught_by = "zero-when-equal"


class ClaimsPositive(Sound):
    """It leaves the teacher's entropy out, with the wrong sign."""

    name = "claims-positive"
    caught_by = "non-negative"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (teacher.logits.float().softmax(dim=1) * student.logits.float().log_softmax(dim=1)).sum(dim=1).mean()


class TwoTermsInOne(Sound):
    """A term is a vector."""

    name = "two-terms-in-one"
    caught_by = "terms"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return (self.adapter(student.embedding).float() - teacher.embedding.float()).square().mean(dim=1)


class MissingLogarithm(Sound):
    """The divergence of probabilities from probabilities, averaged over the classes too."""

    name = "missing-logarithm"
    caught_by = "terms"
    non_negative = False

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.kl_div(student.logits.float().softmax(dim=1), teacher.logits.float().softmax(dim=1))


class RefusesAll(Sound):
    """It refuses every pair when it is called."""

    name = "refuses-all"
    caught_by = "terms"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        raise PairError("these two do not fit")


class SaysNothing(Sound):
    """It asks for the teacher and gives no term."""

    name = "says-nothing"
    caught_by = "terms"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {}


class LateSum(Sound):
    """A sum over the batch that begins at the end of the training."""

    name = "late-sum"
    caught_by = "batch-size"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        return terms if batch.progress < 0.9 else {**terms, "late": len(batch.labels) * terms["kd"]}


class DividesTwice(Sound):
    """A mean over the batch, divided by the batch once more."""

    name = "divides-twice"
    caught_by = "batch-size"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return super().compare(student, teacher) / len(student.logits)


class MemoryByRow(Sound):
    """Its memory of the teacher is found by the row, and not by the sample."""

    name = "memory-by-row"
    caught_by = "batch-order"
    also = frozenset({"memory-rows"})

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.register_buffer("memory", torch.zeros(setup.num_samples, setup.teacher.embedding))

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        rows = len(teacher.embedding)
        with torch.no_grad():
            self.memory[:rows] = 0.5 * self.memory[:rows] + 0.5 * teacher.embedding.float()
        return F.mse_loss(self.adapter(student.embedding).float(), self.memory[:rows].clone())


class ClaimsOrder(Sound):
    """It claims to depend on the order, and does not."""

    name = "claims-order"
    caught_by = "batch-order"
    warns = True
    order_dependent = True


class LabelsTwice(Sound):
    """It adds the hard-label loss, which the engine adds too."""

    name = "labels-twice"
    caught_by = "labels-once"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        hard = F.cross_entropy(student.logits.float(), batch.labels)
        return super().forward(student, teacher, batch) | {"labels": 0.1 * hard}
