"""Whether a training dies of its strategy, or of the learning rate."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdzoo.strategy import Outputs, Strategy, Terms

LARGEST = 1e6
"""Size of a signal beyond which a student has diverged: its squares are soon infinite in float32, which says nothing of
the strategy."""


class Divergence:
    """Sees, in a training, what was beyond all bounds first: what the student gives, or what the strategy makes of it.

    Args:
        strategy: whose calls are looked at.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._died: bool | None = None
        strategy.register_forward_hook(self._look)

    @property
    def seen(self) -> bool:
        """Whether no term was the first: the student had diverged before, or only did when it was measured."""
        return not self._died

    def _look(self, strategy: Any, given: tuple[Outputs, ...], terms: Terms) -> None:
        if self._died is None and not all(bool(term.isfinite()) for term in terms.values()):
            self._died = all(map(_bounded, given[0].values.values()))


def _bounded(signal: Any) -> bool:
    parts = (signal,) if isinstance(signal, Tensor) else tuple(signal)
    # The comparison is false for NaN.
    return all(bool((part.abs() <= LARGEST).all()) for part in parts if part is not None)
