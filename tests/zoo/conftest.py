"""Strategies are tested on made-up signals: no model, no data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from kdzoo import Batch, Classifier, Outputs, PreActivation, Setup, Signature, StageShape, Strategy

HEADS = ("head", "head_dist")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def setup() -> Callable[..., Setup]:
    """Make a Setup from the (channels, height, width) of each stage, which are paired from the deepest."""

    def make(
        student: Sequence[tuple[int, int, int]] = ((4, 8, 8), (6, 4, 4), (8, 2, 2)),
        teacher: Sequence[tuple[int, int, int]] = ((8, 8, 8), (10, 5, 3), (12, 1, 1)),
        classes: tuple[int, int] = (3, 3),
        pooled: tuple[bool, bool] = (False, False),
    ) -> Setup:
        """``pooled``: whether the heads of student and teacher pool the last map, and are linear then."""
        n, m = len(student), len(teacher)
        shared = min(n, m)
        widths = (student[-1][0] if pooled[0] else 5, teacher[-1][0] if pooled[1] else 7)
        signatures = [
            Signature(tuple(StageShape(*shape) for shape in stages), *rest)
            for stages, *rest in zip((student, teacher), widths, classes, pooled, strict=True)
        ]
        return Setup(
            student=dataclasses.replace(signatures[0], heads=HEADS),
            teacher=signatures[1],
            stage_pairs=tuple((n - shared + i, m - shared + i) for i in range(shared)),
            num_classes=classes[0],
            num_samples=100,
            classifier=Classifier(torch.randn(classes[1], widths[1]), torch.randn(classes[1])),
            pre_activations=tuple(PreActivation(torch.ones(c), torch.zeros(c)) for c, _, _ in teacher),
        )

    return make


@pytest.fixture
def outputs() -> Callable[..., Outputs]:
    """Make random signals of one network; ``trained`` ones ask for gradients."""

    def make(signature: Signature, size: int, dtype: torch.dtype = torch.float32, trained: bool = False) -> Outputs:
        def random(*shape: int) -> Tensor:
            return torch.randn(size, *shape).to(dtype).requires_grad_(trained)

        layer = [torch.randn(signature.num_classes, *width).to(dtype) for width in ((signature.embedding,), ())]
        return Outputs(
            {
                "logits": random(signature.num_classes),
                "stages": tuple(random(*shape) for shape in signature.stages),
                "embedding": random(signature.embedding),
                "classifier": Classifier(*(part.requires_grad_(trained) for part in layer)),
                "heads": tuple(random(signature.num_classes) for _ in signature.heads),
                "pre_stages": tuple(random(*shape) for shape in signature.stages),
            }
        )

    return make


@pytest.fixture
def batch() -> Callable[..., Batch]:
    def make(size: int, phase: str = "main") -> Batch:
        labels = torch.zeros(size, dtype=torch.int64)
        return Batch(inputs=None, labels=labels, targets=labels, index=torch.arange(size), phase=phase)

    return make


class _Backward:
    def __init__(self, strategy: Strategy) -> None:
        self.parameters = tuple(strategy.parameters())

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        loss.backward(retain_graph=retain_graph)


@pytest.fixture
def step(batch: Callable[..., Batch]) -> Callable[..., dict[str, Tensor]]:
    """Run a strategy on signals and fill the gradients of all its terms."""

    def run(strategy: Strategy, student: Outputs, teacher: Outputs, phase: str = "main") -> dict[str, Tensor]:
        terms = strategy(student, teacher, batch(len(student.logits), phase))
        if terms:
            strategy.gradients(terms, _Backward(strategy))
        return terms

    return run
