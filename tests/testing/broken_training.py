"""Mistakes that show in a training: in the teacher, in adapters, in what a checkpoint holds, in time."""

from __future__ import annotations

import sys
import time
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from sound_strategy import Sound
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Phase, Setup, Terms
from kdzoo.models.teacher import Teacher
from kdzoo.testing.kit.trainings import BATCH


class TeacherInTrainMode(Sound):
    """It reaches around kdzoo for the teacher, and wakes its dropout and BatchNorm."""

    name = "teacher-in-train-mode"
    classic = True
    caught_by = "teacher-untouched"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        frame = sys._getframe()
        while frame := frame.f_back:
            taught_by = getattr(frame.f_locals.get("self"), "teacher", None)
            if isinstance(taught_by, Teacher):
                taught_by.model.model.train()
        return super().compare(student, teacher)


class TeacherMoves(Sound):
    """It averages the student's classifier into the teacher's, the live one. Classifier: classes x D."""

    name = "teacher-moves"
    classic = True
    signals = ("logits", "embedding")
    teacher_signals = ("logits", "embedding", "classifier")
    caught_by = "teacher-untouched"
    also = frozenset({"gradient-teacher"})

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        with torch.no_grad():
            teacher.classifier.weight.mul_(0.999)
        return super().compare(student, teacher)


class UntrainedAdapter(Sound):
    """Its adapter stands on the teacher's side, where nothing is recorded."""

    name = "untrained-adapter"
    classic = True
    caught_by = "gradient-adapters"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter = nn.Linear(setup.teacher.embedding, setup.student.embedding)

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        with torch.no_grad():
            target = self.adapter(teacher.embedding).float()
        return F.mse_loss(student.embedding.float(), target)


class LateAdapter(Sound):
    """Its adapter is made when it is first used: the optimizer does not know it."""

    name = "late-adapter"
    caught_by = "registered"
    also = frozenset({"two-epochs", "stochastic"})

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Linear(teacher.embedding.shape[1], teacher.embedding.shape[1])
        return F.mse_loss(self.late(self.adapter(student.embedding)).float(), teacher.embedding.float())


class MemoryOutside(Sound):
    """What it remembers is a plain attribute."""

    name = "memory-outside"
    classic = True
    caught_by = "checkpoint"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.average = 1.0

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        loss = super().compare(student, teacher)
        self.average = 0.9 * self.average + 0.1 * float(loss.detach())
        return loss / (1e-3 + self.average)


class HiddenBuffer(Sound):
    """Its memory is a buffer that is kept out of the checkpoint."""

    name = "hidden-buffer"
    caught_by = "checkpoint"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.register_buffer("seen", torch.zeros(setup.num_samples), persistent=False)


class SeededGenerator(Sound):
    """Its own generator, seeded in build, starts again when a run is taken up."""

    name = "seeded-generator"
    caught_by = "checkpoint"
    also = frozenset({"float64"})  # a generator gives other numbers in float64

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.draw = torch.Generator().manual_seed(0)

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        keep = torch.rand(1, generator=self.draw).item()
        return (0.5 + keep) * super().follow(student, teacher)


class SharedMemory(Sound):
    """What one training remembers, the next one finds: it is in the class."""

    name = "shared-memory"
    caught_by = "training-again"
    # A fresh strategy is not fresh, whatever it is made for.
    also = frozenset({"checkpoint"})
    steps: ClassVar[dict[str, int]] = {}

    def gradients(self, terms: Terms, backward: Any) -> None:
        self.steps["done"] = self.steps.get("done", 0) + 1
        super().gradients(terms | {"kd": terms["kd"] * self.steps["done"]}, backward)


class ForgetsAPhase(Sound):
    """What its first phase remembers is a plain attribute that is gone when the phase ends."""

    name = "forgets-a-phase"
    caught_by = "resume"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", epochs // 2), Phase("second", epochs - epochs // 2)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        if batch.phase == "second":
            self.steps = 0
            return terms
        self.steps = getattr(self, "steps", 0) + 1
        return {name: term / (1 + self.steps) for name, term in terms.items()}


class Slow(Sound):
    """It takes its time, in its first phase only."""

    name = "slow"
    caught_by = "step-cost"
    warns = True

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", epochs // 2), Phase("second", epochs - epochs // 2)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        if batch.phase == "first" and len(batch.labels) == BATCH:
            time.sleep(0.3)
        return super().forward(student, teacher, batch)


class ShrinkingMaps(Sound):
    """It pools by the factor between its stages, as if the last were always smaller than the first."""

    name = "shrinking-maps"
    signals = ("logits", "embedding", "stages")
    caught_by = "vit-from-cnn"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        first, last = student.stages[0].float(), student.stages[-1].float()
        factor = first.shape[-1] // last.shape[-1]
        if factor < 2:
            raise ValueError(f"pooling by {factor} leaves no smaller map")
        drop = F.avg_pool2d(first.mean(dim=1, keepdim=True), factor).mean() - last.mean()
        return super().forward(student, teacher, batch) | {"drop": drop.square()}
