"""Strategies are tested on made-up signals: no model, no data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from kdzoo import Batch, Outputs, PreActivation, Setup, Signature, StageShape, Strategy

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
    ) -> Setup:
        n, m = len(student), len(teacher)
        shared = min(n, m)
        return Setup(
            student=Signature(
                tuple(StageShape(*shape) for shape in student), embedding=5, num_classes=classes[0], heads=HEADS
            ),
            teacher=Signature(tuple(StageShape(*shape) for shape in teacher), embedding=7, num_classes=classes[1]),
            stage_pairs=tuple((n - shared + i, m - shared + i) for i in range(shared)),
            num_classes=classes[0],
            num_samples=100,
            pre_activations=tuple(PreActivation(torch.ones(c), torch.zeros(c)) for c, _, _ in teacher),
        )

    return make


@pytest.fixture
def outputs() -> Callable[..., Outputs]:
    """Make random signals of one network; ``trained`` ones ask for gradients."""

    def make(signature: Signature, size: int, dtype: torch.dtype = torch.float32, trained: bool = False) -> Outputs:
        def random(*shape: int) -> Tensor:
            return torch.randn(size, *shape).to(dtype).requires_grad_(trained)

        return Outputs(
            {
                "logits": random(signature.num_classes),
                "stages": tuple(random(*shape) for shape in signature.stages),
                "embedding": random(signature.embedding),
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


@pytest.fixture
def step(batch: Callable[..., Batch]) -> Callable[..., dict[str, Tensor]]:
    """Run a strategy on signals and fill the gradients of all its terms."""

    def run(strategy: Strategy, student: Outputs, teacher: Outputs, phase: str = "main") -> dict[str, Tensor]:
        terms = strategy(student, teacher, batch(len(student.logits), phase))
        if terms:
            strategy.gradients(terms, lambda loss: loss.backward())
        return terms

    return run
