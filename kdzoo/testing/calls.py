"""One call of a strategy: what went in, what came out, and the gradients of that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kdzoo.strategy import Batch, Phase, Strategy, Terms
from kdzoo.testing.made import Tapped

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
    def told(self) -> str:
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
