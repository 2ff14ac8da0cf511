"""Made-up signals of two networks: no model, no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from seed_networks import CNN, VIT

from kdzoo import Batch, Outputs, Setup, Signature
from kdzoo_seed.strategy import DISTIL, SelfSupervisedDistillation


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make() -> Callable[..., SelfSupervisedDistillation]:
    """The strategy for a pair, on 20 training samples unless told otherwise."""

    def build(
        student: Signature = CNN, teacher: Signature = VIT, samples: int = 20, **values: Any
    ) -> SelfSupervisedDistillation:
        setup = Setup(student, teacher, stage_pairs=(), num_classes=3, num_samples=samples)
        return SelfSupervisedDistillation(setup, **values)

    return build


@pytest.fixture
def embedded() -> Callable[..., Outputs]:
    """A network's embedding of a batch; a trained one asks for gradients."""

    def draw(network: Signature, size: int, dtype: torch.dtype = torch.float32, trained: bool = False) -> Outputs:
        return Outputs({"embedding": torch.randn(size, network.embedding).to(dtype).requires_grad_(trained)})

    return draw


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """A batch of the given samples, in the phase without labels unless told otherwise."""

    def of(samples: list[int], phase: str = DISTIL) -> Batch:
        labels = torch.zeros(len(samples), dtype=torch.int64)
        return Batch(inputs=None, labels=labels, targets=labels, index=torch.tensor(samples), phase=phase)

    return of
