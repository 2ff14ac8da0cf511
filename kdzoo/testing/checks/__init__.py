"""The checks in the order in which they run and are shown, and how to run them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from kdzoo.errors import UsageError, unknown
from kdzoo.registry import Registered
from kdzoo.strategy import Strategy
from kdzoo.testing.checks.arguments import ARGUMENT_ORDER
from kdzoo.testing.checks.card import CARD, EXAMPLES, PREDICT, SIGNALS_READ
from kdzoo.testing.checks.cost import MEMORY_GROWTH, STEP_COST, THOUSAND_CLASSES
from kdzoo.testing.checks.equation import EQUATION
from kdzoo.testing.checks.gradients import GOAL, GRADIENT_STUDENT, GRADIENT_TEACHER
from kdzoo.testing.checks.hyperparameters import PARAMETERS, SEARCH_SPACE
from kdzoo.testing.checks.loss import FLOAT32, LABELS_ONCE, NON_NEGATIVE, TERMS, ZERO_WHEN_EQUAL
from kdzoo.testing.checks.methods import REDUCTION, SURVEY, VARIANTS
from kdzoo.testing.checks.precision import BF16, CHANNELS_LAST, DEGENERATE, FLOAT64, FP16, NON_CONTIGUOUS
from kdzoo.testing.checks.repeating import OTHER_PROCESS, REPEATABLE, STOCHASTIC, TRAINING_AGAIN
from kdzoo.testing.checks.samples import ACROSS, BATCH_ORDER, BATCH_SIZE
from kdzoo.testing.checks.shapes import (
    BATCH_OF_ONE,
    MIXUP_TARGETS,
    NO_BIAS,
    PARTIAL_BATCH,
    TWO_CLASSES,
    UNEQUAL_CHANNELS,
    UNEQUAL_SIZES,
    UNEQUAL_STAGES,
)
from kdzoo.testing.checks.state import MEMORY_ROWS, REGISTERED
from kdzoo.testing.checks.training import (
    BF16_TRAINING,
    CHECKPOINT,
    GRADIENT_ADAPTERS,
    OTHER_PAIRS,
    RESUME,
    TEACHER_UNTOUCHED,
    TWO_EPOCHS,
)
from kdzoo.testing.kit import Check, Finding, make_subject, run_check
from kdzoo.testing.kit.subject import Subject

GROUPS: dict[str, tuple[Check, ...]] = {
    "The loss": (
        TERMS,
        REPEATABLE,
        STOCHASTIC,
        FLOAT32,
        ZERO_WHEN_EQUAL,
        NON_NEGATIVE,
        BATCH_ORDER,
        BATCH_SIZE,
        LABELS_ONCE,
        ACROSS,
        MEMORY_ROWS,
        VARIANTS,
    ),
    "Gradients and arguments": (
        REGISTERED,
        GRADIENT_STUDENT,
        GRADIENT_TEACHER,
        ARGUMENT_ORDER,
        GOAL,
        REDUCTION,
        SURVEY,
    ),
    "Shapes": (
        BATCH_OF_ONE,
        PARTIAL_BATCH,
        TWO_CLASSES,
        THOUSAND_CLASSES,
        UNEQUAL_CHANNELS,
        UNEQUAL_SIZES,
        UNEQUAL_STAGES,
        NON_CONTIGUOUS,
        CHANNELS_LAST,
        MIXUP_TARGETS,
        NO_BIAS,
    ),
    "Precision and memory": (FLOAT64, BF16, FP16, DEGENERATE, MEMORY_GROWTH),
    "Training": (
        TWO_EPOCHS,
        TRAINING_AGAIN,
        OTHER_PROCESS,
        TEACHER_UNTOUCHED,
        CHECKPOINT,
        RESUME,
        GRADIENT_ADAPTERS,
        *OTHER_PAIRS,
        BF16_TRAINING,
        STEP_COST,
    ),
    "Parameters": (PARAMETERS, SEARCH_SPACE),
    "Card": (SIGNALS_READ, PREDICT, CARD, EXAMPLES, EQUATION),
}
"""Heading -> its checks, in the order in which they run."""

CHECKS: tuple[Check, ...] = tuple(check for checks in GROUPS.values() for check in checks)
"""Every check."""


def run_checks(
    strategy: type[Strategy] | Registered[type[Strategy]],
    params: Mapping[str, Any] | None = None,
    *,
    only: Collection[str] = (),
) -> list[Finding]:
    """Run the conformance checks of a strategy; about 20 seconds on one core.

    Args:
        strategy: the class, or its entry in a registry.
        params: values of its hyperparameters; the others have their defaults.
        only: names of checks; by default all. A check that needs others is run after them.

    Returns:
        One finding for each check that ran, in the order of :data:`kdzoo.testing.CHECKS`.

    Raises:
        UsageError: an unknown check, or a wrong parameter.
    """
    return list(findings(make_subject(strategy, params), select_checks(only)))


def select_checks(only: Collection[str]) -> tuple[Check, ...]:
    """The named checks and those that they need, in order; all where none is named.

    Raises:
        UsageError: there is no check of that name.
    """
    by_name = {check.name: check for check in CHECKS}
    for name in only:
        if name not in by_name:
            raise UsageError(unknown("check", name, by_name))
    wanted, left = set[str](), list(only or by_name)
    while left:
        name = left.pop()
        wanted.add(name)
        left += [need for need in by_name[name].needs if need not in wanted]
    return tuple(check for check in CHECKS if check.name in wanted)


def findings(subject: Subject, checks: Sequence[Check]) -> Iterator[Finding]:
    """Run checks one after the other, and give each finding when it is there."""
    found: dict[str, Finding] = {}
    for check in checks:
        found[check.name] = run_check(check, subject, found)
        yield found[check.name]


def checks_page() -> str:
    """Every check by group, in Markdown: what it verifies, why that matters, how to mend a failure."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for number, (heading, checks) in enumerate(GROUPS.items()):
        yield from ([""] if number else [])
        yield f"## {heading}"
        for check in checks:
            yield from ("", f"### {check.name}", "")
            yield f"{_sentence(check.verifies)}  "
            yield f"*Why it matters:* {_sentence(check.matters)}  "
            yield f"*How to fix it:* {_sentence(check.mend)}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
