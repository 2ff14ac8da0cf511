"""Made-up pairs of networks on which each strategy of the zoo can be built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

import kdzoo_zoo
from kdzoo import Outputs, PairError, Setup, Strategy

STRATEGIES = {strategy.name: strategy for strategy in kdzoo_zoo.kdzoo_strategies()}
MODIFIERS = sorted(name for name, kind in STRATEGIES.items() if kind.modifies)
DISTILLING = sorted(set(STRATEGIES) - {"ce", *MODIFIERS})

NEEDED: dict[str, dict[str, Any]] = {"fsp": {"adapter": True}}
"""Parameters without which a strategy refuses the networks of these tests, whose channels differ."""

_LARGE = {"teacher": ((8, 8, 8), (10, 5, 3), (12, 3, 3))}
_SQUARE = {"teacher": ((8, 8, 8), (10, 4, 4), (12, 1, 1))}
_TOKENS = {"student": ((8, 4, 4),) * 3, "teacher": ((8, 4, 4),) * 3}
_NETWORKS: tuple[dict[str, Any], ...] = (
    {},
    _SQUARE,
    {"pooled": (True, True)},
    {"pooled": (True, True)} | _LARGE,
    _TOKENS,
)


def served(
    name: str, setup: Callable[..., Setup], classes: tuple[int, int] = (3, 3), params: Any = None, **shapes: Any
) -> Strategy:
    """A strategy on the first pair that it serves: some need more classes, square maps, heads that pool the last map, a
    last map of several positions, or transformers."""
    values = NEEDED.get(name, {}) if params is None else params
    refusals = []
    for count in (classes, (3, 3), (9, 9)):
        for more in _NETWORKS:
            try:
                return STRATEGIES[name](setup(classes=count, **more | shapes), **values)
            except PairError as error:
                refusals.append(error)
    raise refusals[0]


def teaching_phase(strategy: Strategy) -> str:
    """The last phase in which the teacher teaches the student."""
    return [phase.name for phase in strategy.phases(100) if phase.teacher and phase.trains != "strategy"][-1]


def trained_signals(student: Outputs, signals: Any) -> Iterator[Tensor]:
    """Every tensor among a student's signals."""
    for signal in signals:
        value = student.values[signal]
        yield from (part for part in (value if isinstance(value, tuple) else (value,)) if part is not None)


def per_sample(outputs: Outputs) -> list[tuple[str, Any]]:
    """The signals with one row for each sample: all but the classifier."""
    return [(name, value) for name, value in outputs.values.items() if name != "classifier"]


def mapped(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    """The same signals with a change of each tensor that has a row for each sample."""
    changed = {
        name: tuple(map(change, value)) if isinstance(value, tuple) else change(value)
        for name, value in per_sample(outputs)
    }
    return Outputs(dict(outputs.values) | changed)


def rows(strategy: Strategy, samples: int) -> int:
    """Rows of a batch of so many samples, with the views and variants of each."""
    return samples * strategy.views * strategy.variants
