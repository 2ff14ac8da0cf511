"""Made-up batches and data for made-up networks, and one call on them: what went in, what came out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.data.dataset import ArrayData, Dataset, Splits
from kdzoo.data.load import LoadedData, open_data
from kdzoo.declarations import Phase, Signal, Signature, student_signals, teacher_signals
from kdzoo.outputs import Batch, Classifier, Outputs, Setup
from kdzoo.strategy import Strategy, Terms
from kdzoo.testing.kit.networks import TRAINING_SAMPLES, NetworkPair, make_pair

Change = Callable[[Tensor], Tensor]

MAPS: frozenset[Signal] = frozenset({"stages", "pre_stages"})
"""Signals that are maps of the stages."""


@dataclass(frozen=True)
class Features:
    """What a network sees in a batch. Where a strategy asks for the maps before the activations, the stages are those.

    Args:
        stages: B x C x H x W each.
        free: the embedding, B x D; None where it is the mean of the last map.
    """

    stages: tuple[Tensor, ...]
    free: Tensor | None

    @property
    def embedding(self) -> Tensor:
        """B x D."""
        return self.stages[-1].mean(dim=(2, 3)) if self.free is None else self.free

    def map(self, change: Change) -> Features:
        """Change every tensor."""
        return Features(tuple(map(change, self.stages)), None if self.free is None else change(self.free))


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


def draw_batch(pair: NetworkPair, samples: int, *, views: int = 1, seed: int = 0, scale: float = 1.0) -> Drawn:
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

        stages = tuple(random(*shape) for shape in network.stages)
        return Features(stages, None if network.head_pools else random(network.embedding))

    student, teacher = features(pair.student), features(pair.teacher)
    labels = torch.randint(pair.student.num_classes, (samples,), generator=draw)
    answers = F.linear(teacher.embedding[:samples], *pair.layers[1]).argmax(dim=1)
    labels = torch.where(torch.arange(samples) % 2 == 0, answers, labels).repeat(views)
    index = torch.randperm(max(TRAINING_SAMPLES, samples), generator=draw)[:samples].repeat(views)
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


def draw_survey(kind: type[Strategy], setup: Setup) -> list[tuple[Outputs, Batch]]:
    """What a strategy sees of the teacher before a training: two samples of each class, in batches of two sizes."""
    classes = setup.num_classes
    layer = setup.classifier or make_pair(widths=(1, setup.teacher.embedding), classes=classes).layers[1]
    pair = NetworkPair(setup.teacher, setup.teacher, (layer, layer))
    drawn = draw_batch(pair, 2 * classes, seed=99)
    labels = torch.arange(2 * classes) % classes
    index = torch.arange(2 * classes) % setup.num_samples
    drawn = replace(drawn, batch=replace(drawn.batch, labels=labels, targets=labels, index=index))
    cut = classes // 2 + 1
    parts = (drawn.rows(torch.arange(cut)), drawn.rows(torch.arange(cut, 2 * classes)))
    return [(tap_teacher(kind, part.teacher, layer).outputs, replace(part.batch, phase="survey")) for part in parts]


def _tap(signals: frozenset[Signal], features: Features, layer: Classifier, *, trained: bool) -> Tapped:
    def source(x: Tensor) -> Tensor:
        # A copy, so that what is written to it stays in this call; one with gaps would lose them, and is not copied.
        gaps = not any(x.is_contiguous(memory_format=order) for order in _orders(x))
        return (x.detach() if gaps else x.detach().clone()).requires_grad_(trained)

    seen = features.map(source)
    weight, bias = source(layer.weight), None if layer.bias is None else source(layer.bias)
    # Logits are computed as a network does, so that under autocast they have the precision that they have there.
    stages, embedding, layer = seen.stages, seen.embedding, Classifier(weight, bias)
    values: dict[str, Any] = {"stages": stages, "embedding": embedding, "classifier": layer}
    if "pre_stages" in signals:
        values |= {"pre_stages": stages, "stages": tuple(map(F.relu, stages))}
    values["logits"] = F.linear(embedding, weight, bias)
    if "heads" in signals:
        apart = F.linear(embedding, weight.detach().roll(1, dims=1))
        values["heads"] = (values["logits"] + apart, values["logits"] - apart)
    sources = tuple(part for part in (*stages, seen.free, weight, bias) if part is not None)
    return Tapped(Outputs({name: values[name] for name in values if name in signals}), sources)


def _orders(x: Tensor) -> tuple[torch.memory_format, ...]:
    return (torch.contiguous_format, torch.channels_last) if x.ndim == 4 else (torch.contiguous_format,)


NO_TERMS = "it gives no distillation term"


@dataclass(frozen=True)
class Call:
    """One call of a strategy: its terms (``phase/name`` where it has several phases), and what went in.

    Args:
        strategy: as it is after the call.
        terms: of all phases.
        student: the student's signals.
        teacher: the teacher's signals.
        batch: what else it was given, but for the phase and the progress.
        phases: the terms of each phase, by their own names.
    """

    strategy: Strategy
    terms: Terms
    student: Tapped
    teacher: Tapped
    batch: Batch
    phases: tuple[tuple[Phase, Terms], ...]

    @property
    def values(self) -> dict[str, float]:
        """The terms as numbers."""
        return {name: float(term.detach()) for name, term in self.terms.items()}

    @property
    def total(self) -> Tensor:
        """The sum of the terms, float64."""
        return sum((term.double() for term in self.terms.values()), torch.zeros((), dtype=torch.float64))

    @property
    def summary(self) -> str:
        """Its terms in words."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.values.items()) or NO_TERMS

    @property
    def fault(self) -> str:
        """Which term or gradient is NaN or infinite; empty where none is."""
        for name, value in self.values.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        finite = all(bool(part.isfinite().all()) for part in self.gradients())
        return "" if finite else "the gradient in the student is NaN or infinite"

    def gradients(self) -> tuple[Tensor, ...]:
        """Of the total, for each source of the student; zeros where nothing arrives."""
        sources = self.student.sources
        if not self.total.requires_grad:
            return tuple(map(torch.zeros_like, sources))
        return torch.autograd.grad(self.total, sources, retain_graph=True, allow_unused=True, materialize_grads=True)


_FIT, _HELD_OUT = 48, 16
"""Samples that train, and samples of tune and of test each."""


class BrightQuadrant(Dataset):
    """Four classes of grey images, 16 x 16 pixels."""

    name = "bright-quadrant"
    img_size = (16, 16)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        """Make the images; nothing is read."""
        draw = np.random.default_rng(11)

        def part(count: int) -> ArrayData:
            labels = np.arange(count, dtype=np.int64) % 4
            images = draw.integers(0, 100, (count, 1, 16, 16), dtype=np.uint8)
            for image, label in zip(images, labels, strict=True):
                row, column = divmod(int(label), 2)
                image[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 120
            return ArrayData(images, labels)

        classes = ("top left", "top right", "bottom left", "bottom right")
        return Splits(part(_FIT), part(_HELD_OUT), classes, tune=part(_HELD_OUT))


def open_quadrants() -> LoadedData:
    """The dataset, ready to train on."""
    return open_data(BrightQuadrant.name, lambda name: BrightQuadrant())
