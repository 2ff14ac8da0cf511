"""Weights that follow from the pair: the gradients of the first steps say how a strategy's terms are scaled.

A paper's weight holds for its maps, networks and batches. On others it may leave nothing to the labels, or nothing to
the teacher. Under a :class:`kdzoo.refs.Balance` of ratio r, the first 16 steps that have hard labels (:data:`STEPS`)
measure two gradients: g, of the sum of the strategy's weighted terms, and h, of the hard-label loss with the weight 1.
From the first step on, the terms are multiplied by

    f = r sqrt(sum |h|^2 / sum |g|^2)

where both sums go over the steps so far, and norms are Euclidean, over the student's parameters. After the 16th step f
stands. So at the first step the ratio of the gradients is r exactly, and over the 16 steps it is about r, as a root
mean square; later it is whatever training makes of it.

- One f for all terms of a strategy: what they weigh beside each other is the method's own. A combination has one for
  each strategy in it, whose weights come from papers that did not know of each other.
- The hard-label loss has the weight 1, whatever the strategy's ``ce_weight`` is: f replaces it.
- The student's parameters, because every term has a gradient there, whatever signals it is made of; all of them, also
  those that a term does not reach. Over those that it reaches the ratio moves away sooner: of attention transfer to a
  small transformer it was up to 14 in the first 320 steps, and up to 3 over all.
- In the steps that measure, ``Batch.epoch`` and ``Batch.progress`` say the middle of the phase, where what warms up or
  fades has the weight that f is to scale; else a term that begins at a twentieth would be 20 times too strong later.
- Terms whose gradient is 0 in all these steps keep their weight. Phases without hard labels are left as they are.
- Modules of the strategy are scaled along: f is a weight like any other.

Source: kdzoo's own rule. GradNorm (Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm: Gradient Normalization for
Adaptive Loss Balancing in Deep Multitask Networks", ICML 2018, arXiv 1711.02257) learns the weights of several tasks so
that the norms of their gradients at shared parameters stay near a common one; here they are measured once, so that a
row of a board has one loss from beginning to end, and a term may lose weight as its gradient shrinks. Wang, Teng and
Perdikaris ("Understanding and Mitigating Gradient Flow Pathologies in Physics-Informed Neural Networks", SIAM Journal
on Scientific Computing 2021, arXiv 2001.04536) set the weight of a loss by the ratio of gradients, too, and go on
throughout the training.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kdzoo.combination import Combination
from kdzoo.declarations import Phase
from kdzoo.engine.devices import Clock
from kdzoo.engine.distiller import HARD_LABELS, Distiller
from kdzoo.engine.world import World
from kdzoo.measures import BALANCE
from kdzoo.outputs import Batch
from kdzoo.refs import Balance
from kdzoo.strategy import Strategy, Terms

STEPS = 16
"""How many steps with hard labels are measured."""


class Balancer:
    """Scales the terms of each step, and measures the first ones.

    Args:
        balance: the ratio; None leaves terms as they are.
        distiller: student, second student and strategy.
        accelerator: scales losses in half precision.
        world: the ranks; their gradients are added, so that all get the same factors.

    Attributes:
        squares: for each strategy whose terms are scaled, the sums of the squared norms: of its terms' gradient, and of
            that of the hard-label loss.
        steps: how many steps were measured.
    """

    def __init__(
        self,
        balance: Balance | None,
        distiller: Distiller,
        accelerator: Accelerator,
        world: World,
        device: torch.device,
    ) -> None:
        self.balance, self._distiller, self._accelerator, self._world = balance, distiller, accelerator, world
        self.squares = {name: [0.0, 0.0] for name in weighted(distiller.strategy)} if balance else {}
        self.steps = 0
        self._device, self._clock = device, Clock(device)

    @property
    def measuring(self) -> bool:
        """Whether the next step with hard labels is measured."""
        return self.balance is not None and self.steps < STEPS

    def told(self, batch: Batch, first: int, phase: Phase) -> Batch:
        """The batch as the strategy gets it: in a step that is measured, it says the middle of the phase.

        Args:
            batch: of the step.
            first: epoch with which the phase begins.
            phase: the running one.
        """
        if not (self.measuring and phase.hard_labels):
            return batch
        middle = first + phase.epochs // 2
        return dataclasses.replace(batch, epoch=middle, progress=middle / batch.epochs)

    def __call__(self, terms: Terms) -> Terms:
        """The terms of a step, scaled; as they are where there is no hard-label loss."""
        labels = [name for name in terms if name in HARD_LABELS]
        if self.balance is None or not labels:
            return terms
        owner = {name: self._owner(name) for name in terms if name not in labels}
        if self.measuring:
            with self._clock.section():
                self._measure(terms, labels, owner)
        factors = self.factors()
        return {name: term * factors[owner[name]] if name in owner else term for name, term in terms.items()}

    def factors(self) -> dict[str, float]:
        """By what the terms of each strategy are multiplied, as far as is known; above 0."""
        ratio = self.balance.ratio if self.balance else 1.0
        return {
            name: ratio * math.sqrt(labels / own) if own and labels else 1.0
            for name, (own, labels) in self.squares.items()
        }

    def cost(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """The seconds that measuring took since this was last asked, added to those that it took before; nothing where
        nothing is balanced."""
        taken, self._clock = self._clock.seconds(), Clock(self._device)
        return {BALANCE.name: seconds.get(BALANCE.name, 0.0) + taken} if self.balance else {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"squares": self.squares, "steps": self.steps}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` gave; a checkpoint of an older version has nothing."""
        self.squares, self.steps = state.get("squares", self.squares), state.get("steps", 0)

    def _measure(self, terms: Terms, labels: list[str], owner: dict[str, str]) -> None:
        trained = tuple(self._trained())
        target = self._square([terms[name] for name in labels], trained)
        for part, sums in self.squares.items():
            own = self._square([terms[name] for name in owner if owner[name] == part], trained)
            if math.isfinite(own) and math.isfinite(target):  # a scaler of half precision begins with some that are not
                sums[:] = [sums[0] + own, sums[1] + target]
        self.steps += 1

    def _trained(self) -> Iterator[nn.Parameter]:
        """The parameters of the student, and of a second one, that the phase trains."""
        for network in (self._distiller.student, self._distiller.peer):
            if network is not None:
                yield from (parameter for parameter in network.parameters() if parameter.requires_grad)

    def _square(self, terms: list[Tensor], at: tuple[nn.Parameter, ...]) -> float:
        """The squared norm of the gradient of a sum of terms."""
        reaching = [term.float() for term in terms if term.requires_grad]
        if not (reaching and at):
            return 0.0
        loss, scaler = torch.stack(reaching).sum(), self._accelerator.scaler
        found = torch.autograd.grad(scaler.scale(loss) if scaler else loss, at, retain_graph=True, allow_unused=True)
        norms = [self._world.add(one.clone()).float().norm() for one in found if one is not None]
        return float(torch.stack(norms).square().sum()) if norms else 0.0

    def _owner(self, term: str) -> str:
        """The strategy to which a term belongs."""
        return term.partition(".")[0] if isinstance(self._distiller.strategy, Combination) else next(iter(self.squares))


def weighted(strategy: Strategy) -> list[str]:
    """The names of the strategies whose terms have a factor of their own: those of a combination, or the one."""
    if isinstance(strategy, Combination):
        return [kind.name for kind in strategy.kinds if not kind.modifies]
    return [strategy.name]


def competes(strategy: Strategy, epochs: int) -> bool:
    """Whether terms of a strategy stand beside the hard-label loss, so that they can be balanced.

    Args:
        strategy: as it is built for a pair.
        epochs: of the training.
    """
    labelled = [phase for phase in strategy.phases(epochs) if phase.hard_labels and phase.trains != "strategy"]
    return strategy.ce_weight != 0 and any(phase.teacher for phase in labelled)
