"""Losses on logits as they stand in public code, each with one mistake."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mistaken import Mistaken, softened

from kdzoo import Batch, Outputs, Terms, param


class Softened(Mistaken):
    """The divergence of softened probabilities.

    Loss: CE(student, labels) + beta T^2 KL(p || q), summed over the classes, mean over the batch; logits B x classes.
    """

    name = "softened"
    family = "response"
    temperature: float = param(4.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = softened(student.logits, self.temperature), softened(teacher.logits, self.temperature)
        return {"kd": self.weight() * F.kl_div(q, p, reduction="batchmean", log_target=True)}

    def weight(self) -> float:
        return self.beta * self.temperature**2


class SoftmaxOverTheBatch(Softened):
    """Its dim is 0 where it should be 1.

    Loss: CE + beta T^2 KL(p || q), p and q softmax over the classes.
    """

    name = "softmax-over-the-batch"
    caught_by = "across-samples"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q = F.log_softmax(student.logits.float() / self.temperature, dim=0)
        p = F.softmax(teacher.logits.float() / self.temperature, dim=0)
        return {"kd": self.weight() * F.kl_div(q, p, reduction="sum") / len(q)}


class ForgottenSquare(Softened):
    """The card has the square of the temperature, the code has not."""

    name = "forgotten-square"
    caught_by = "equation"

    def weight(self) -> float:
        return self.beta


class ConstantSquare(Softened):
    """The square of what the temperature was when it was written."""

    name = "constant-square"
    caught_by = "equation"

    def weight(self) -> float:
        return 16.0 * self.beta


class BareDeviation(Softened):
    """Logits are standardised by a deviation that may be 0.

    Loss: CE + beta T^2 KL of softmax(((z - mean) / std) / T), z the logits, B x classes.
    """

    name = "bare-deviation"
    caught_by = "degenerate"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        logits = [outputs.logits.float() for outputs in (student, teacher)]
        q, p = (softened((z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True), self.temperature) for z in logits)
        return {"kd": self.weight() * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class LogOfSoftmax(Softened):
    """The logarithm of what has become 0."""

    name = "log-of-softmax"
    caught_by = "terms"
    temperature: float = param(1.0, "softens", gt=0.0, search=(1.0, 8.0), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (F.softmax(outputs.logits.float() / self.temperature, dim=1) for outputs in (student, teacher))
        return {"kd": self.weight() * (p * (p.log() - q.log())).sum(dim=1).mean()}


class BareExponential(Softened):
    """A softmax by hand, without the largest logit subtracted."""

    name = "bare-exponential"
    caught_by = "fp16"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        powers = [(outputs.logits / self.temperature).exp() for outputs in (student, teacher)]
        q, p = (power / power.sum(dim=1, keepdim=True) for power in powers)
        loss = (p * ((p + 1e-6).log() - (q + 1e-6).log())).sum(dim=1)
        return {"kd": self.weight() * loss.float().mean()}


class AveragedOverClasses(Softened):
    """A divergence by hand, averaged over the classes too."""

    name = "averaged-over-classes"
    caught_by = "equation"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = softened(student.logits, self.temperature), softened(teacher.logits, self.temperature)
        return {"kd": self.weight() * (p.exp() * (p - q)).mean()}


class SwappedArguments(Softened):
    """The divergence of the teacher from the student."""

    name = "swapped-arguments"
    caught_by = "argument-order"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = softened(student.logits, self.temperature), softened(teacher.logits, self.temperature)
        return {"kd": self.weight() * F.kl_div(p, q, reduction="batchmean", log_target=True)}


class UnreadTemperature(Softened):
    """It declares a temperature, and softens by a constant."""

    name = "unread-temperature"
    caught_by = "parameters"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = softened(student.logits, 4.0), softened(teacher.logits, 4.0)
        return {"kd": self.beta * 16.0 * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class UnreadWeight(Softened):
    """It declares a weight, and does not apply it."""

    name = "unread-weight"
    caught_by = "parameters"
    warns = True

    def weight(self) -> float:
        return self.temperature**2


class AlphaOnBoth(Softened):
    """Its alpha is the weight of the labels too.

    Loss: (1 - alpha) CE(student, labels) + alpha T^2 KL(p || q), logits B x classes.
    """

    name = "alpha-on-both"
    caught_by = "equation"
    alpha: float = param(0.9, "weight of the teacher", ge=0.0, le=1.0, search=(0.1, 1.0))

    @property
    def ce_weight(self) -> float:
        return self.alpha

    def weight(self) -> float:
        return self.beta * self.alpha * self.temperature**2


class LabelsInTheTarget(Softened):
    """It mixes the labels into the teacher's answers.

    Loss: CE(student, labels) + beta CE(student, p), p softmax of the teacher's logits, B x classes.
    """

    name = "labels-in-the-target"
    caught_by = "labels-once"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        truth = F.one_hot(batch.labels, student.logits.shape[1]).float()
        target = 0.5 * softened(teacher.logits, self.temperature).exp() + 0.5 * truth
        return {"kd": self.weight() * -(target * softened(student.logits, 1.0)).sum(dim=1).mean()}


class TenClasses(Softened):
    """It takes every dataset to have ten classes."""

    name = "ten-classes"
    caught_by = "two-classes"
    also = frozenset({"equation", "thousand-classes"})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        others = 1 - F.one_hot(batch.labels, 10).float()
        q, p = (softened(outputs.logits, self.temperature).exp() for outputs in (student, teacher))
        return {"kd": self.weight() * ((q - p).square() * others).sum(dim=1).mean()}


class FixedBatch(Softened):
    """It divides by the batch size of its author."""

    name = "fixed-batch"
    caught_by = "batch-size"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = softened(student.logits, self.temperature), softened(teacher.logits, self.temperature)
        return {"kd": self.weight() * F.kl_div(q, p, reduction="sum", log_target=True) / 64}


class SoftenedOnOneSide(Softened):
    """Only the teacher is softened."""

    name = "softened-on-one-side"
    caught_by = "gradient-student"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = softened(student.logits, 1.0), softened(teacher.logits, self.temperature)
        return {"kd": self.weight() * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class RisingReward(Softened):
    """The sign of the similarity is forgotten.

    Loss: CE(student, labels) + beta mean(1 - cos(z, v)), logits B x classes.
    """

    name = "rising-reward"
    caught_by = "goal"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        one, other = (F.normalize(outputs.logits.float() / self.temperature, dim=1) for outputs in (student, teacher))
        return {"kd": self.weight() * (one * other).sum(dim=1).mean()}


class LearnedTemperature(Softened):
    """Its temperature learns to make the loss small, instead of hard: the gradient is not reversed.

    Loss: CE(student, labels) + beta KL(p || q) at a learned temperature, logits B x classes.
    """

    name = "learned-temperature"
    caught_by = "goal"

    def build(self, setup: object) -> None:
        self.hot = torch.nn.Parameter(torch.tensor(self.temperature))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        q, p = (F.log_softmax(outputs.logits.float() / self.hot, dim=1) for outputs in (student, teacher))
        return {"kd": self.beta * F.kl_div(q, p, reduction="batchmean", log_target=True)}


class ReadsColumns(Softened):
    """It reads the teacher's logits by columns."""

    name = "reads-columns"
    caught_by = "batch-order"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        rows, classes = student.logits.shape
        q, p = softened(student.logits, self.temperature), softened(teacher.logits, self.temperature)
        p = p.T.reshape(rows, classes)
        return {"kd": self.weight() * F.kl_div(q, p, reduction="batchmean", log_target=True)}
