"""SGD with two momenta: one of the hard-label loss, one of the distillation terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class SeparateMomenta(torch.optim.Optimizer):
    """SGD that keeps a momentum for each of two gradients; see :func:`~kdzoo_zoo.scheme.dot.\
separate_momentum_trajectory`.

    The first gradient of a parameter is its ``grad``, the second is handed over. A parameter that gets one of the two
    has plain momentum, and weight decay beside that one.

    Args:
        made: SGD with momentum; its groups say parameters, rate, momentum, weight decay, and whether it is Nesterov's.
        distilled: parameter -> second gradient, filled before each step.
        delta: how much less momentum the first gradient has than SGD, and how much more the second.
    """

    def __init__(self, made: torch.optim.SGD, distilled: Mapping[Tensor, Tensor], delta: float) -> None:
        self.distilled = distilled
        self.delta = delta
        super().__init__([dict(group) for group in made.param_groups], dict(made.defaults))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step with the gradients as they are now; a closure is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if (direction := self._direction(parameter, group)) is not None:
                    parameter.add_(direction, alpha=-group["lr"])

    def _direction(self, parameter: Tensor, group: Mapping[str, Any]) -> Tensor | None:
        """Where a parameter goes, times minus one; None where it has no gradient. Updates its momenta."""
        task, distilled = parameter.grad, self.distilled.get(parameter)
        delta = self.delta if task is not None and distilled is not None else 0.0
        # Weight decay stands beside the first gradient, and beside the second where there is no first.
        decay = group["weight_decay"]
        if task is not None:
            task = task.add(parameter, alpha=decay) if decay else task
        elif distilled is not None:
            distilled = distilled.add(parameter, alpha=decay) if decay else distilled
        parts = [
            self._moved(parameter, name, gradient, momentum, group["nesterov"])
            for name, gradient, momentum in (
                ("task", task, group["momentum"] - delta),
                ("distilled", distilled, group["momentum"] + delta),
            )
            if gradient is not None
        ]
        return parts[0] + parts[1] if len(parts) == 2 else next(iter(parts), None)

    def _moved(self, parameter: Tensor, name: str, gradient: Tensor, momentum: float, nesterov: bool) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        moving: Tensor = state[name].mul_(momentum).add_(gradient)
        return gradient.add(moving, alpha=momentum) if nesterov else moving
