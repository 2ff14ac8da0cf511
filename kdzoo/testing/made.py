"""Made-up networks and batches: signals of the right shapes that fit each other as those of a real network do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.models.taps import pair_stages
from kdzoo.signals import student_signals, teacher_signals
from kdzoo.strategy import Batch, Classifier, Outputs, Setup, Signal, Signature, StageShape, Strategy

Shape = tuple[int, int, int]
Change = Callable[[Tensor], Tensor]

TRAINING_SAMPLES = 256
"""What a made-up dataset has; no batch of the checks is larger."""

STAGES: tuple[Shape, ...] = ((8, 8, 8), (12, 4, 4), (16, 2, 2))
"""Of both networks by default: what a strategy cannot serve is left to the checks of unequal shapes."""

DEEP_STAGES: tuple[Shape, ...] = ((4, 32, 32), (6, 16, 16), *STAGES)
"""Of both networks where a strategy refuses fewer."""

EVEN_STAGES: tuple[Shape, ...] = ((16, 4, 4),) * 4
"""Of both networks where a strategy refuses maps that shrink: those of a ViT do not."""


@dataclass(frozen=True)
class Pair:
    """Two made-up networks.

    Args:
        student: shapes of the student.
        teacher: shapes of the teacher.
        layers: the last linear layers of student and teacher.
    """

    student: Signature
    teacher: Signature
    layers: tuple[Classifier, Classifier]

    def twins(self) -> Pair:
        """The student twice: two networks of the same shapes and with the same last layer."""
        return Pair(self.student, self.student, (self.layers[0], self.layers[0]))

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
        )


def make_pair(
    student: Sequence[Shape] = STAGES,
    teacher: Sequence[Shape] = STAGES,
    classes: int = 10,
    widths: tuple[int, int] = (20, 20),
    seed: int = 0,
    bias: bool = True,
) -> Pair:
    """Networks of these stages (C x H x W each), embeddings and classes, with random last layers."""
    draw = torch.Generator().manual_seed(seed)
    shapes = [
        Signature(tuple(StageShape(*shape) for shape in stages), width, classes)
        for stages, width in zip((student, teacher), widths, strict=True)
    ]
    layers = [
        Classifier(torch.randn(classes, width, generator=draw) / width**0.5, torch.randn(classes, generator=draw) / 10)
        for width in widths
    ]
    if not bias:
        layers = [Classifier(layer.weight, None) for layer in layers]
    return Pair(shapes[0], shapes[1], (layers[0], layers[1]))


@dataclass(frozen=True)
class Features:
    """What a network sees in a batch: stages, B x C x H x W each, and embedding, B x D."""

    stages: tuple[Tensor, ...]
    embedding: Tensor

    def map(self, change: Change) -> Features:
        """Change every tensor."""
        return Features(tuple(map(change, self.stages)), change(self.embedding))


@dataclass(frozen=True)
class Drawn:
    """A batch, and what both networks see in it; with several views, one after another along the rows."""

    student: Features
    teacher: Features
    batch: Batch
    views: int = 1

    def map(self, change: Change) -> Drawn:
        """Change every floating-point tensor: features, inputs, mixed targets."""
        inputs, targets = self.batch.inputs, self.batch.targets
        targets = change(targets) if targets.is_floating_point() else targets
        batch = replace(self.batch, inputs=change(inputs), targets=targets)
        return replace(self, student=self.student.map(change), teacher=self.teacher.map(change), batch=batch)

    def rows(self, places: Tensor) -> Drawn:
        """The samples at these places, in their order, some of them or some several times; with all their views."""
        old, samples = self.batch, len(self.batch.labels) // self.views
        order = torch.cat([places + view * samples for view in range(self.views)])
        batch = replace(
            old,
            inputs=old.inputs[order],
            labels=old.labels[order],
            targets=old.targets[order],
            index=old.index[order],
        )
        return Drawn(self.student.map(lambda x: x[order]), self.teacher.map(lambda x: x[order]), batch, self.views)


def draw_batch(pair: Pair, samples: int, *, views: int = 1, seed: int = 0, scale: float = 1.0) -> Drawn:
    """Random features of a pair, positive on average as behind a ReLU, and a batch of distinct samples.

    The teacher is right on every other sample, and seldom on the rest.

    Args:
        pair: the networks.
        samples: different samples in the batch.
        views: versions of each.
        seed: of the draw.
        scale: of the features; a large one makes confident logits.
    """
    draw = torch.Generator().manual_seed(1000 + seed)
    rows = samples * views

    def features(network: Signature) -> Features:
        def random(*shape: int) -> Tensor:
            return scale * (torch.randn(rows, *shape, generator=draw) + 0.5)

        return Features(tuple(random(*shape) for shape in network.stages), random(network.embedding))

    student, teacher = features(pair.student), features(pair.teacher)
    labels = torch.randint(pair.student.num_classes, (samples,), generator=draw)
    answers = F.linear(teacher.embedding[:samples], *pair.layers[1]).argmax(dim=1)
    labels = torch.where(torch.arange(samples) % 2 == 0, answers, labels).repeat(views)
    index = torch.randperm(TRAINING_SAMPLES, generator=draw)[:samples].repeat(views)
    inputs = torch.rand(rows, 3, 16, 16, generator=draw)
    batch = Batch(inputs=inputs, labels=labels, targets=labels, index=index)
    return Drawn(student, teacher, batch, views)


@dataclass(frozen=True)
class Tapped:
    """The signals of one network, and the tensors that they are made of (the student's ask for gradients)."""

    outputs: Outputs
    sources: tuple[Tensor, ...]


def tap_student(kind: type[Strategy], features: Features, layer: Classifier) -> Tapped:
    """The student's signals as the engine gives them; its gradients end in ``sources``."""
    return _tap(student_signals(kind), features, layer, trained=True)


def tap_teacher(kind: type[Strategy], features: Features, layer: Classifier) -> Tapped:
    """The teacher's signals as the engine gives them: without gradients."""
    return _tap(teacher_signals(kind), features, layer, trained=False)


def _tap(signals: frozenset[Signal], features: Features, layer: Classifier, *, trained: bool) -> Tapped:
    def source(x: Tensor) -> Tensor:
        # A copy, so that what is written to it stays in this call; one with gaps would lose them, and is not copied.
        gaps = not any(x.is_contiguous(memory_format=order) for order in _orders(x))
        return (x.detach() if gaps else x.detach().clone()).requires_grad_(trained)

    stages, embedding = tuple(map(source, features.stages)), source(features.embedding)
    weight, bias = source(layer.weight), None if layer.bias is None else source(layer.bias)
    # Logits are computed as a network does, so that under autocast they have the precision that they have there.
    values: dict[str, Any] = {"stages": stages, "embedding": embedding, "classifier": Classifier(weight, bias)}
    values["logits"] = F.linear(embedding, weight, bias)
    sources = (*stages, embedding, weight, *(() if bias is None else (bias,)))
    return Tapped(Outputs({name: values[name] for name in values if name in signals}), sources)


def _orders(x: Tensor) -> tuple[torch.memory_format, ...]:
    return (torch.contiguous_format, torch.channels_last) if x.ndim == 4 else (torch.contiguous_format,)
