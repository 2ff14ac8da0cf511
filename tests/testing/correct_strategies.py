"""Strategies that are right, each in a way that a careless check takes for a mistake; ``checks`` names it."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from sound_strategy import Sound
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Phase, Setup, Terms, param


class Correct(Sound):
    """Of the tests alone.

    Loss: as the base.
    """

    checks: ClassVar[tuple[str, ...]] = ()


class KeepsLosses(Correct):
    """Its state is a list that grows, handed out as it is."""

    name = "keeps-losses"
    checks = ("checkpoint", "resume")

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.losses: list[float] = []

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        loss = super().compare(student, teacher) / (1 + sum(self.losses))
        self.losses.append(float(loss.detach()))
        return loss

    def get_extra_state(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.losses = state["losses"]


class PredictsWithState(Correct):
    """It says how the student predicts, and has state beside its tensors."""

    name = "predicts-with-state"
    checks = ("predict",)
    deployed = ("head",)

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.head = nn.Linear(setup.num_classes, setup.num_classes)

    def predict(self, student: Outputs) -> Tensor:
        return self.head(student.logits)

    def get_extra_state(self) -> dict[str, Any]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        assert state["version"] == 1


class LongPhases(Correct):
    """How long its first phase is may be set and searched, far beyond what can be tried."""

    name = "long-phases"
    checks = ("parameters", "search-space")
    hint: int = param(1, "epochs of the first phase", ge=1, search=(1, 60))
    pause: int = param(1, "epochs of the second phase", ge=1, le=100)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("hint", self.hint), Phase("pause", self.pause), Phase("main", epochs - self.hint - self.pause)


class WhereSure(Correct):
    """The divergence where the teacher is sure.

    Loss: mean over b of [max_c p_t > 0.9] KL(p_t, p_s), logits B x classes.
    """

    name = "where-sure"
    signals = ("logits",)
    checks = ("gradient-student", "argument-order")
    least: float = param(0.9, "probability from which on the teacher is sure", ge=0.0, lt=1.0, search=(0.5, 0.95))

    def build(self, setup: Setup) -> None:
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = (outputs.logits.float() / self.temperature for outputs in (student, teacher))
        each = F.kl_div(own.log_softmax(1), theirs.log_softmax(1), reduction="none", log_target=True).sum(dim=1)
        sure = (teacher.logits.float().softmax(dim=1).amax(dim=1) > self.least).float()
        return {"kd": self.beta * self.temperature**2 * (sure * each).mean()}


class Tokens(Correct):
    """It compares maps position by position, and serves only networks whose maps all have one size.

    Loss: sum over pairs of mean((W s - t)^2), s and t the stages, B x C x H x W.
    """

    name = "tokens"
    signals = ("stages",)
    checks = ("terms", "two-epochs", "training-again", "teacher-untouched", "checkpoint", "resume", "gradient-adapters")

    def build(self, setup: Setup) -> None:
        if len({stage[1:] for network in (setup.student, setup.teacher) for stage in network.stages}) > 1:
            raise PairError("tokens needs maps of one size: choose vision transformers of one patch size")
        self.adapters = nn.ModuleList(nn.Linear(own.channels, theirs.channels) for own, theirs in setup.paired_shapes())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        gaps = []
        for adapter, (own, theirs) in zip(self.adapters, self.setup.stage_pairs, strict=True):
            positions = student.stages[own].flatten(2).mT
            gaps.append(F.mse_loss(adapter(positions).float(), teacher.stages[theirs].flatten(2).mT.float()))
        return {"tokens": self.beta * torch.stack(gaps).mean() / self.temperature}


class Standardised(Correct):
    """The divergence of logits that are standardised for each sample: what they all are times makes no difference.

    Loss: T^2 KL of (z - mean) / std of the logits, B x classes, after Sun et al. 2024.
    """

    name = "standardised"
    signals = ("logits",)
    checks = ("argument-order",)

    def build(self, setup: Setup) -> None:
        self.register_buffer("seen", torch.zeros(setup.num_samples))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own, theirs = (self.standardise(outputs.logits.float()) / self.temperature for outputs in (student, teacher))
        # The usual form, whose rounding is larger than that of a difference of logarithms.
        loss = F.kl_div(own.log_softmax(dim=1), theirs.softmax(dim=1), reduction="batchmean")
        return {"kd": self.beta * self.temperature**2 * loss}

    def standardise(self, logits: Tensor) -> Tensor:
        return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + 1e-7)


class ReadElsewhere(Correct):
    """One of its parameters is read where gradients are combined, one where the student predicts."""

    name = "read-elsewhere"
    checks = ("parameters",)
    momentum: float = param(0.5, "of the gradients", ge=0.0, lt=1.0)
    sharpness: float = param(1.0, "of the predictions", gt=0.0)

    def gradients(self, terms: Terms, backward: Any) -> None:
        super().gradients(terms, backward)
        for parameter in backward.parameters:
            if parameter.grad is not None:
                parameter.grad = (1 - self.momentum) * parameter.grad

    def predict(self, student: Outputs) -> Tensor:
        return self.sharpness * student.logits


class LabelsOfItsOwn(Correct):
    """It adds the hard-label loss in a phase to which the engine adds none."""

    name = "labels-of-its-own"
    checks = ("labels-once",)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("warm", 1, hard_labels=False), Phase("main", epochs - 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        return (
            terms | {"hard": F.cross_entropy(student.logits.float(), batch.targets)} if batch.phase == "warm" else terms
        )


class EachByItself(Correct):
    """Per sample through dropout, whose draws differ from call to call: its parts are compared on average."""

    name = "each-by-itself"
    checks = ("across-samples", "stochastic")
    per_sample = True

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.drop = nn.Dropout(0.2)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        near = F.mse_loss(self.adapter(self.drop(student.embedding.float())).float(), teacher.embedding.float())
        return {"kd": self.beta * self.compare(student, teacher), "near": near}


def all_correct() -> list[type[Correct]]:
    """Every strategy of this file."""
    found = [each for each in globals().values() if isinstance(each, type) and issubclass(each, Correct)]
    return [each for each in found if each.checks]
