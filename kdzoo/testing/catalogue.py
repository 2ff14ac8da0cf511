"""The list of the checks, in the order in which they run and are shown."""

from __future__ import annotations

from kdzoo.testing.across import ACROSS
from kdzoo.testing.card import CARD
from kdzoo.testing.chance import STOCHASTIC
from kdzoo.testing.check import Check
from kdzoo.testing.engine import TRAINING
from kdzoo.testing.equation import EQUATION
from kdzoo.testing.gradients import GRADIENTS
from kdzoo.testing.losses import LOSSES
from kdzoo.testing.params import PARAMETERS
from kdzoo.testing.precision import PRECISION
from kdzoo.testing.reduction import REDUCTION
from kdzoo.testing.repeatable import REPEATABLE
from kdzoo.testing.rows import MEMORY_ROWS
from kdzoo.testing.shapes import SHAPES

GROUPS: dict[str, tuple[Check, ...]] = {
    "The loss": (LOSSES[0], REPEATABLE, STOCHASTIC, *LOSSES[1:], ACROSS, MEMORY_ROWS),
    "Gradients and arguments": (*GRADIENTS, REDUCTION),
    "Shapes": SHAPES,
    "Precision and memory": PRECISION,
    "Training": TRAINING,
    "Parameters": PARAMETERS,
    "Card": (*CARD, EQUATION),
}
"""Heading -> its checks."""

CHECKS: tuple[Check, ...] = tuple(check for checks in GROUPS.values() for check in checks)
"""Every check."""
