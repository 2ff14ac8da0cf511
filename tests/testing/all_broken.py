"""Every strategy with a mistake that the tests of the kit know."""

from __future__ import annotations

import broken_cards
import broken_gradients
import broken_losses
import broken_precision
import broken_shapes
import broken_slips
import broken_training
import mistaken_features
import mistaken_logits
import mistaken_memories
from mistaken import Mistaken
from sound_strategy import Sound

HOMES = (
    broken_losses,
    broken_gradients,
    broken_shapes,
    broken_precision,
    broken_training,
    broken_cards,
    broken_slips,
)


def all_broken() -> list[type[Sound]]:
    """Those that name the check that is meant for them, in the order of their files."""
    found = [each for home in HOMES for each in vars(home).values() if isinstance(each, type)]
    return [each for each in dict.fromkeys(found) if issubclass(each, Sound) and each.caught_by]


RIGHT = (mistaken_logits.Softened, mistaken_features.Adapted, mistaken_memories.Remembers)
"""What the mistakes of the gallery are made in."""


def gallery() -> list[type[Mistaken]]:
    """The strategies that stand as in public code, in the order of their files."""
    homes = (mistaken_logits, mistaken_features, mistaken_memories)
    found = [each for home in homes for each in vars(home).values() if isinstance(each, type)]
    kinds = [each for each in dict.fromkeys(found) if issubclass(each, Mistaken)]
    return [kind for kind in kinds if kind is not Mistaken and kind not in RIGHT]
