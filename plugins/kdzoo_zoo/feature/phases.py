"""A first phase of a share of the epochs, for strategies that prepare something before the main phase."""

from __future__ import annotations

from dataclasses import replace

from kdzoo import Phase, UsageError


def two_phases(strategy: str, share: float, epochs: int, first: Phase, main: Phase | None = None) -> tuple[Phase, ...]:
    """A first phase of at least one epoch, and the main phase with the rest.

    Args:
        strategy: its name, for messages.
        share: of the epochs, for the first phase.
        epochs: of the whole training.
        first: the first phase, of any length.
        main: the main phase, of any length; by default an ordinary one.

    Raises:
        UsageError: no epoch is left for the main phase.
    """
    begun = max(1, round(share * epochs))
    if begun >= epochs:
        raise UsageError(
            f"{strategy}.share {share} of {epochs} epochs leaves none for the main phase: lower it, or raise the "
            f"recipe's epochs"
        )
    return replace(first, epochs=begun), replace(main or Phase("main", 1), epochs=epochs - begun)
