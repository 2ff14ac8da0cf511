"""Mistakes that hide: behind a seed, a set, a folded loss, a refusal of most networks, or a phase of one epoch."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from sound_strategy import Sound
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Phase, Setup, Terms


class FoldedLabels(Sound):
    """Its one term is a mixture of the divergence and of the hard-label loss, which the engine adds too."""

    name = "folded-labels"
    caught_by = "labels-once"
    warns = True
    smoothing: ClassVar[bool] = False

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        hard = F.cross_entropy(student.logits.float(), batch.labels, label_smoothing=0.1 if self.smoothing else 0.0)
        return terms | {"kd": 0.9 * terms["kd"] + 0.1 * hard}


class SmoothedLabels(FoldedLabels):
    """The same, of smoothed labels."""

    name = "smoothed-labels"
    smoothing: ClassVar[bool] = True


class SeedsInBuild(Sound):
    """Its adapter starts alike, whatever the seed of the training."""

    name = "seeds-in-build"
    caught_by = "repeatable"

    def build(self, setup: Setup) -> None:
        torch.manual_seed(0)
        super().build(setup)


class SeedsNumpy(Sound):
    """It draws the same numbers from numpy at every step."""

    name = "seeds-numpy"
    caught_by = "repeatable"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        np.random.seed(0)
        return super().compare(student, teacher) * (1 + np.random.rand())


class SeedsPython(Sound):
    """It draws the same numbers from Python at every step."""

    name = "seeds-python"
    caught_by = "repeatable"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        random.seed(0)
        return super().compare(student, teacher) * (1 + random.random())


class IteratesOverASet(Sound):
    """Its adapters are made in the order of a set, which is another one in each process."""

    name = "iterates-over-a-set"
    caught_by = "other-process"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        names = {"mean", "spread", "corner", "centre", "edge", "peak"}
        self.parts = nn.ModuleDict(
            {name: nn.Linear(setup.student.embedding, setup.teacher.embedding) for name in names}
        )

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        parts = [self.parts[name](student.embedding).float() for name in sorted(self.parts)]
        theirs = teacher.embedding.float()
        weighted = [F.mse_loss(part, theirs) / place for place, part in enumerate(parts, 1)]
        return super().follow(student, teacher) + torch.stack(weighted).sum()


class NeedsABias(Sound):
    """It takes every last layer, the classifier of classes x D, to have a bias."""

    name = "needs-a-bias"
    teacher_signals = ("logits", "embedding", "classifier")
    caught_by = "no-bias"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.register_buffer("offset", setup.classifier.bias.clone())

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(student.logits.float() - self.offset, teacher.logits.float() - self.offset)


class Deep(Sound):
    """It serves networks of at least four stages only."""

    name = "deep"
    signals = ("logits", "embedding", "stages")

    def build(self, setup: Setup) -> None:
        if len(setup.stage_pairs) < 4:
            raise PairError("deep needs four paired stages: choose deeper networks")
        super().build(setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        stages = [F.mse_loss(*sizes) for sizes in zip(self.seen_of(student), self.seen_of(teacher), strict=True)]
        return super().forward(student, teacher, batch) | {"stages": torch.stack(stages).mean()}

    def seen_of(self, outputs: Outputs) -> list[Tensor]:
        """How strong each of the deepest four maps is, sample by sample."""
        return [stage.float().square().mean(dim=(1, 2, 3)) for stage in outputs.stages[-4:]]


class DeepAndIdle(Deep):
    """It does not look at the stages."""

    name = "deep-and-idle"
    caught_by = "signals"
    warns = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return Sound.forward(self, student, teacher, batch)


class DeepPredictsAlone(Deep):
    """What the student needs in order to predict stays behind."""

    name = "deep-predicts-alone"
    caught_by = "predict"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.shift = nn.Parameter(torch.zeros(setup.num_classes))

    def predict(self, student: Outputs) -> Tensor:
        return student.logits + self.shift


class DeepEqualChannels(Deep):
    """It subtracts embeddings of whatever width."""

    name = "deep-equal-channels"
    caught_by = "unequal-channels"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter = nn.Identity()


class DeepSameSizes(Deep):
    """It takes maps to be of one size."""

    name = "deep-same-sizes"
    caught_by = "unequal-sizes"

    def seen_of(self, outputs: Outputs) -> list[Tensor]:
        return [stage.float().square().mean(dim=1) for stage in outputs.stages[-4:]]


class RefusesNarrowStudents(Sound):
    """It refuses students that are narrower than the teacher, and takes all others to be equally wide."""

    name = "refuses-narrow-students"
    caught_by = "unequal-channels"

    def build(self, setup: Setup) -> None:
        if setup.student.embedding < setup.teacher.embedding:
            raise PairError("the student is too narrow: choose a wider one")
        super().build(setup)
        self.adapter = nn.Identity()


class ForgetsAShortPhase(Sound):
    """What its first phase, of one epoch, remembers is a plain attribute that the epoch after it uses up."""

    name = "forgets-a-short-phase"
    caught_by = "resume"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", 1), Phase("second", epochs - 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        if batch.phase == "first":
            self.steps = getattr(self, "steps", 0) + 1
            return terms
        if batch.progress > 0.6:
            self.steps = 0
        return {name: term * (1 + getattr(self, "steps", 0)) for name, term in terms.items()}


class ClaimsItsMemory(Sound):
    """It claims to look at each sample alone, and counts in a buffer, of which several processes would keep several."""

    name = "claims-its-memory"
    caught_by = "across-samples"
    per_sample = True


class ClaimsAWeightedMean(Sound):
    """It claims a mean over samples, and divides by the sum of weights that the samples of the batch have."""

    name = "claims-a-weighted-mean"
    caught_by = "across-samples"
    per_sample = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        weights = teacher.logits.float().softmax(dim=1).amax(dim=1)
        apart = (self.adapter(student.embedding).float() - teacher.embedding.float()).square().mean(dim=1)
        return {"kd": self.beta * self.compare(student, teacher), "near": (weights * apart).sum() / weights.sum()}


class ClaimsRelations(Sound):
    """It claims to look at each sample alone, and compares those of a batch with each other."""

    name = "claims-relations"
    family = "relation"
    caught_by = "across-samples"
    per_sample = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        s, t = (F.normalize(outputs.embedding.float(), dim=1) for outputs in (student, teacher))
        return {"kd": self.beta * self.compare(student, teacher), "near": F.mse_loss(s @ s.T, t @ t.T)}
