"""Which signals a strategy is given of each network."""

from __future__ import annotations

from kdzoo.declarations import Signal
from kdzoo.strategy import Strategy


def student_signals(strategy: type[Strategy] | Strategy) -> frozenset[Signal]:
    """What the student must give: what the strategy asks for, and the logits that it is measured by."""
    return frozenset({"logits", *strategy.signals})


def rows_of_sample(strategy: type[Strategy] | Strategy) -> int:
    """Rows of a batch for each of its samples: its views, with all variants of each."""
    return strategy.views * strategy.variants


def teacher_signals(strategy: type[Strategy] | Strategy) -> frozenset[Signal]:
    """What the teacher must give; empty leaves the teacher out of the training."""
    own = strategy.teacher_signals
    return frozenset(strategy.signals if own is None else own)
