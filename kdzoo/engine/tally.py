"""The loss terms of an epoch, summed on the device: reading a value at every step would make the device wait."""

from __future__ import annotations

import math

from torch import Tensor

from kdzoo.errors import NonFiniteLossError
from kdzoo.strategy import Terms


class Tally:
    """Sums each term, and counts the steps at which it was finite."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | int] = {}
        self._finite: dict[str, Tensor | int] = {}

    def add(self, terms: Terms) -> None:
        """Take up the terms of one step."""
        for name, term in terms.items():
            value = term.detach()
            self._sums[name] = self._sums.get(name, 0) + value
            self._finite[name] = self._finite.get(name, 0) + value.isfinite()

    def means(self, steps: int, where: str) -> dict[str, float]:
        """The mean of each term.

        Args:
            steps: how many were added.
            where: what to call them in a message.

        Raises:
            NonFiniteLossError: a term was NaN or infinite. The one that was so first is named: after it, the weights
                and with them all the other terms are not finite either.
        """
        totals = {name: float(total) for name, total in self._sums.items()}
        broken = [name for name, total in totals.items() if not math.isfinite(total)]
        if broken:
            first = min(broken, key=lambda name: int(self._finite[name]))
            raise NonFiniteLossError(
                f"the term {first!r} was NaN or infinite from step {int(self._finite[first]) + 1} of {steps} on in "
                f"{where}; lower the learning rate (recipe.lr) or the weight of the term, or set recipe.clip_grad"
            )
        return {name: total / steps for name, total in totals.items()}
