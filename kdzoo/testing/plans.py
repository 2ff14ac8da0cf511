"""The shortest training in which every phase of a strategy can be looked at."""

from __future__ import annotations

from kdzoo.errors import KdzooError, UsageError
from kdzoo.strategy import Strategy

MOST_EPOCHS = 40
"""Epochs that a strategy's phases may need at least; beyond, it cannot be tried quickly."""

FAR = (100, 1_000, 10_000)
"""Trainings that are only asked for their phases: whether there would be room in them."""


class TooLongError(KdzooError):
    """Its phases are in order, and need too many epochs to be tried."""


def fewest_epochs(strategy: Strategy) -> int:
    """The fewest epochs, at least two, in which each phase has two, or one where it never has more.

    Raises:
        TooLongError: there is no such training of at most ``MOST_EPOCHS``.
        KdzooError: there is none at all.
    """
    plans = {epochs: plan for epochs in range(2, MOST_EPOCHS + 1) if (plan := _lengths(strategy, epochs))}
    if not plans:
        if any(_lengths(strategy, epochs) for epochs in FAR):
            raise TooLongError(
                f"its phases need more than {MOST_EPOCHS} epochs, which is too long to be tried: shorten them for the "
                f"check, as in --set {strategy.name}.PARAMETER=2"
            )
        raise KdzooError(
            f"its phases do not add up to the recipe's epochs, each with at least one, in any training of 2 to "
            f"{FAR[-1]} epochs that was tried"
        )
    longest = plans[max(plans)]
    wanted = [min(length, 2) for length in longest]
    enough = (n for n, plan in plans.items() if len(plan) == len(wanted) and all(map(int.__ge__, plan, wanted)))
    return next(enough)


def _lengths(strategy: Strategy, epochs: int) -> list[int]:
    """How long each phase of a training is; empty where there is no such training."""
    try:
        lengths = [phase.epochs for phase in strategy.phases(epochs)]
    except UsageError:
        return []
    return lengths if sum(lengths) == epochs and all(length > 0 for length in lengths) else []
