"""Made-up networks: the shapes that they have, and their last layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kdzoo.declarations import Signature, StageShape, pair_stages, teacher_signals
from kdzoo.outputs import Classifier, PreActivation, Setup
from kdzoo.strategy import Strategy

Shape = tuple[int, int, int]

HEADS = ("head", "head_dist")
"""The last layers of all made-up networks, for strategies that need two; the others see their mean."""

TRAINING_SAMPLES = 256
"""What a made-up dataset has; no batch of the checks is larger."""

STAGES: tuple[Shape, ...] = ((8, 8, 8), (12, 4, 4), (16, 2, 2))
"""Of both networks by default: what a strategy cannot serve is left to the checks of unequal shapes."""

DEEP_STAGES: tuple[Shape, ...] = ((4, 32, 32), (6, 16, 16), *STAGES)
"""Of both networks where a strategy refuses fewer."""

EVEN_STAGES: tuple[Shape, ...] = ((16, 4, 4),) * 4
"""Of both networks where a strategy refuses maps that shrink: those of a ViT do not."""


@dataclass(frozen=True)
class NetworkPair:
    """Two made-up networks.

    Args:
        student: shapes of the student.
        teacher: shapes of the teacher.
        layers: the last linear layers of student and teacher.
    """

    student: Signature
    teacher: Signature
    layers: tuple[Classifier, Classifier]

    def twins(self) -> NetworkPair:
        """The student twice: two networks of the same shapes and with the same last layer."""
        return NetworkPair(self.student, self.student, (self.layers[0], self.layers[0]))

    def setup(self, kind: type[Strategy]) -> Setup:
        """What a strategy is built from; with a copy of the teacher's classifier where it names that signal."""
        weight, bias = self.layers[1]
        copy = Classifier(weight.clone(), None if bias is None else bias.clone())
        return Setup(
            student=self.student,
            teacher=self.teacher,
            stage_pairs=pair_stages(self.student, self.teacher),
            num_classes=self.student.num_classes,
            num_samples=TRAINING_SAMPLES,
            classifier=copy if "classifier" in teacher_signals(kind) else None,
            pre_activations=_normalised(self.teacher.stages) if "pre_stages" in teacher_signals(kind) else None,
        )


def _normalised(stages: Sequence[Shape]) -> tuple[PreActivation, ...]:
    """A batch normalisation with random weights before each map."""
    draw = torch.Generator().manual_seed(5)
    return tuple(
        PreActivation(torch.rand(channels, generator=draw) + 0.5, torch.randn(channels, generator=draw) / 2)
        for channels, _, _ in stages
    )


def make_pair(
    student: Sequence[Shape] = STAGES,
    teacher: Sequence[Shape] = STAGES,
    classes: int = 10,
    widths: tuple[int, int] = (20, 20),
    seed: int = 0,
    bias: bool = True,
    pooled: bool = False,
) -> NetworkPair:
    """Networks of these stages (C x H x W each), embeddings and classes, with random last layers.

    With ``pooled`` the embedding is the mean of the last map, whatever ``widths`` says.
    """
    draw = torch.Generator().manual_seed(seed)
    if pooled:
        widths = (student[-1][0], teacher[-1][0])
    shapes = [
        Signature(tuple(StageShape(*shape) for shape in stages), width, classes, head_pools=pooled, heads=HEADS)
        for stages, width in zip((student, teacher), widths, strict=True)
    ]
    layers = [
        Classifier(torch.randn(classes, width, generator=draw) / width**0.5, torch.randn(classes, generator=draw) / 10)
        for width in widths
    ]
    if not bias:
        layers = [Classifier(layer.weight, None) for layer in layers]
    return NetworkPair(shapes[0], shapes[1], (layers[0], layers[1]))
