"""Mistakes in where gradients go, in what torch knows of, and in who is the student and who the teacher."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from sound_strategy import Sound, divergence
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Setup, Terms


class WritesToSignals(Sound):
    """It divides by the temperature in place."""

    name = "writes-to-signals"
    caught_by = "gradient-teacher"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(student.logits, teacher.logits.div_(self.temperature), 1.0)


class GradientIntoTeacher(Sound):
    """It asks for gradients of the teacher."""

    name = "gradient-into-teacher"
    classic = True
    caught_by = "gradient-teacher"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapter(student.embedding).float(), teacher.embedding.requires_grad_().float())


class DetachedStudent(Sound):
    """One of its terms does not teach."""

    name = "detached-student"
    caught_by = "gradient-student"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(student.logits.detach(), teacher.logits, self.temperature)


class SwappedDivergence(Sound):
    """Student and teacher are swapped in the divergence of the logits."""

    name = "swapped-divergence"
    classic = True
    caught_by = "argument-order"

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        return divergence(teacher.logits, student.logits, self.temperature)


class SwappedNames(Sound):
    """Its forward takes the teacher first."""

    name = "swapped-names"
    classic = True
    signals = ("logits",)
    caught_by = "argument-order"

    def build(self, setup: Setup) -> None:
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def forward(self, teacher: Outputs, student: Outputs, batch: Batch) -> Terms:
        return {"kd": self.beta * divergence(student.logits, teacher.logits, self.temperature)}


class IgnoresTeacher(SwappedNames):
    """It sharpens the student's own logits and calls that distillation."""

    name = "ignores-teacher"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = student.logits.float()
        return {"kd": self.beta * divergence(own, 2 * own.detach(), self.temperature)}


class UnregisteredAdapter(Sound):
    """Its adapter is in a plain list."""

    name = "unregistered-adapter"
    classic = True
    caught_by = "registered"
    # The adapter is neither converted to float64 nor trained nor kept.
    also = frozenset({"float64", "gradient-adapters"})

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapters = [self.adapter]
        del self.adapter

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.adapters[0](student.embedding).float(), teacher.embedding.float())


class ClaimsSymmetry(Sound):
    """The divergence."""

    name = "claims-symmetry"
    symmetric = True
    caught_by = "argument-order"


class ReducesTheBatch(Sound):
    """What it keeps of the teacher is centred over the batch."""

    name = "reduces-the-batch"
    caught_by = "reduce"

    def reduce(self, teacher: Outputs) -> Outputs:
        centred = teacher.embedding - teacher.embedding.mean(dim=0)
        return Outputs({"logits": teacher.logits, "embedding": centred})


class AddsToItsSurvey(Sound):
    """What it finds of the teacher is added to what was there."""

    name = "adds-to-its-survey"
    caught_by = "survey"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.register_buffer("mean", torch.zeros(setup.num_classes))

    def survey(self, batches: Iterable[tuple[Outputs, Batch]]) -> None:
        for teacher, _ in batches:
            self.mean += teacher.logits.sum(dim=0)


class ScattersItsVariants(Sound):
    """The variants of an image stand side by side."""

    name = "scatters-its-variants"
    variants = 2
    caught_by = "variants"

    def augment(self, images: Tensor) -> Tensor:
        return images.repeat_interleave(2, dim=0)


class AdapterInAnObject(Sound):
    """Its adapter is an attribute of a plain object."""

    name = "adapter-in-an-object"
    caught_by = "registered"
    also = frozenset({"float64", "checkpoint", "resume"})

    def build(self, setup: Setup) -> None:
        self.parts = SimpleNamespace(adapter=nn.Linear(setup.student.embedding, setup.teacher.embedding))
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return F.mse_loss(self.parts.adapter(student.embedding).float(), teacher.embedding.float())


class FrozenAdapter(Sound):
    """Its adapter is random and never trained."""

    name = "frozen-adapter"
    caught_by = "registered"
    warns = True

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter.requires_grad_(False)


class WritesToTheBatch(Sound):
    """It changes the sample numbers."""

    name = "writes-to-the-batch"
    caught_by = "gradient-teacher"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        batch.index.zero_()
        return terms


class ClaimsModeSeeking(Sound):
    """It claims what releases it from a check, and is not so."""

    name = "claims-mode-seeking"
    caught_by = "argument-order"
    warns = True
    mode_seeking = True
