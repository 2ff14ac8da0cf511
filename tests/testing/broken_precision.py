"""Mistakes in precision and in the use of memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sound_strategy import Sound
from torch import Tensor

from kdzoo import Outputs


class DiesInHalf(Sound):
    """The root of what rounds to 0 in bfloat16."""

    name = "dies-in-half"
    classic = True
    caught_by = "bf16"
    also = frozenset({"degenerate"})  # equal networks are nearer than nearly equal ones

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        squares = (student.logits - teacher.logits).float().square().sum(dim=1)
        return squares.sqrt().mean() + 0.1 * super().follow(student, teacher)


class LosesDigits(Sound):
    """A variance as the difference of two large numbers."""

    name = "loses-digits"
    caught_by = "float64"
    also = frozenset({"batch-order"})  # what is left is rounding, which an order changes
    non_negative = False

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        x = 1000 + self.adapter(student.embedding).float() - teacher.embedding.float()
        return x.square().mean() - x.mean().square()


class QuadraticMemory(Sound):
    """All pairs of samples, feature by feature."""

    name = "quadratic-memory"
    caught_by = "memory-growth"
    warns = True

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(own[:, None] - own[None, :], theirs[:, None] - theirs[None, :])


class PairwiseMemory(Sound):
    """All pairs of samples: a matrix of B x B."""

    name = "pairwise-memory"
    caught_by = "memory-growth"
    warns = True

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(torch.tanh(own @ own.T), torch.tanh(theirs @ theirs.T))


class PairsOfClasses(Sound):
    """All pairs of classes, for each sample."""

    name = "pairs-of-classes"
    caught_by = "thousand-classes"
    warns = True

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = student.logits.float().softmax(dim=1), teacher.logits.float().softmax(dim=1)
        return (own[:, :, None] * own[:, None, :] - theirs[:, :, None] * theirs[:, None, :]).square().sum((1, 2)).mean()


class BareNorm(Sound):
    """It divides by a norm that may be 0."""

    name = "bare-norm"
    caught_by = "degenerate"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(own / own.norm(dim=1, keepdim=True), theirs / theirs.norm(dim=1, keepdim=True))
