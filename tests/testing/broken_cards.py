"""Mistakes in what the author tells: parameters, search ranges, the card, examples, signals, the prediction."""

from __future__ import annotations

import torch
from sound_strategy import Sound
from torch import Tensor, nn

from kdzoo import Outputs, PairError, Setup, param


class UnboundedTemperature(Sound):
    """Nobody says that the temperature must not be 0."""

    name = "unbounded-temperature"
    classic = True
    caught_by = "parameters"
    temperature: float = param(4.0, "softens", search=(1.0, 8.0))


class PlainNumber(Sound):
    """A weight that nobody can set."""

    name = "plain-number"
    caught_by = "parameters"
    warns = True
    weight = 0.5

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        return self.weight * super().follow(student, teacher)


class NothingToSearch(Sound):
    """Its numbers have no ranges."""

    name = "nothing-to-search"
    caught_by = "search-space"
    warns = True
    temperature: float = param(4.0, "softens", gt=0.0)
    beta: float = param(1.0, "weight", ge=0.0)


class HoleyRange(Sound):
    """Most values of its search range do not divide the classes."""

    name = "holey-range"
    caught_by = "search-space"
    parts: int = param(1, "groups of features", ge=1, search=(1, 40))

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        if student.logits.shape[1] % self.parts:
            raise RuntimeError(f"{student.logits.shape[1]} classes are not {self.parts} equal parts")
        return super().compare(student, teacher)


class NoCard(Sound):
    name = "no-card"
    caught_by = "card"


class NoPaper(Sound):
    """The divergence."""

    name = "no-paper"
    paper = None
    caught_by = "card"


class WrongExample(Sound):
    """The divergence.

    Example:
        >>> 1 + 1
        3
    """

    name = "wrong-example"
    caught_by = "examples"


class PredictsAlone(Sound):
    """What the student needs in order to predict stays behind."""

    name = "predicts-alone"
    caught_by = "predict"

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.shift = nn.Parameter(torch.zeros(setup.num_classes))

    def predict(self, student: Outputs) -> Tensor:
        return student.logits + self.shift


class IdleSignal(Sound):
    """It asks for stages and does not look at them."""

    name = "idle-signal"
    signals = ("logits", "embedding", "stages")
    caught_by = "signals"
    warns = True


class RefusesItsRange(Sound):
    """It refuses most values of its own search range."""

    name = "refuses-its-range"
    caught_by = "search-space"
    stage: int = param(0, "which stage", ge=0, search=(0, 40))

    def build(self, setup: Setup) -> None:
        if self.stage >= len(setup.teacher.stages):
            raise PairError(f"there is no stage {self.stage}")
        super().build(setup)


class DeadParameter(Sound):
    """Nothing reads one of its parameters."""

    name = "dead-parameter"
    caught_by = "parameters"
    warns = True

    gamma: float = param(0.5, "read by nobody", ge=0.0, search=(0.1, 1.0))
