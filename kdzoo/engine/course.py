"""What a training goes through step by step, and who watches it: batches, pauses, early stops, and means of terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.engine.optim import Mixer
from kdzoo.engine.world import ALONE, World
from kdzoo.errors import KdzooError, NonFiniteLossError
from kdzoo.outputs import Batch
from kdzoo.record_parts import Epoch
from kdzoo.strategy import Terms


class Watch(Protocol):
    """Who wants to see a training go on."""

    def step(self, epoch: int, done: int, steps: int) -> None:
        """A step of an epoch is done."""

    def epoch(self, line: Epoch, epochs: int) -> None:
        """An epoch is done, and measured on tune where that was asked after it."""


class Unwatched:
    """A :class:`Watch` that nobody reads."""

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Nothing is told."""

    def epoch(self, line: Epoch, epochs: int) -> None:
        """Nothing is told."""


class PrunedError(KdzooError):
    """A trial was ended early, because its curve promised too little."""


Stop = Callable[[Sequence[Epoch]], str]
"""Asked after each epoch but the last, with the curve so far: why the training ends here, or an empty text."""


_T = TypeVar("_T")
Course: TypeAlias = Generator[int, None, _T]
"""Work that rests before each step, which it names, and gives a result at its end."""


def finish(course: Course[_T]) -> _T:
    """Go through a course without a rest; gives its result."""
    while True:
        try:
            next(course)
        except StopIteration as end:
            result: _T = end.value
            return result


Feed = Callable[[int], Iterator[Batch]]
"""Number of an epoch -> its batches: augmented, in their order, mixed where the recipe mixes."""


def own_feed(cell: Cell, data: LoadedData, views: int, device: torch.device) -> Feed:
    """The batches of one cell.

    Args:
        cell: gives recipe and seeds.
        data: the opened dataset.
        views: augmented versions of each sample in a batch.
        device: where the batches shall be.
    """
    recipe = cell.recipe
    mixer = Mixer(recipe, data.ref.num_classes, cell.seed_for("mixup"))

    def feed(epoch: int) -> Iterator[Batch]:
        batches = data.train_batches(
            recipe,
            view=recipe.view(epoch),
            epoch=epoch,
            order_seed=cell.seed_for("order"),
            device=device,
            views=views,
        )
        for step, batch in enumerate(batches):
            yield mixer(batch, step, epoch)

    return feed


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

    def means(self, steps: int, where: str, world: World = ALONE) -> dict[str, float]:
        """The mean of each term.

        Args:
            steps: how many were added.
            where: what to call them in a message.
            world: the ranks that each added terms of their own.

        Raises:
            NonFiniteLossError: a term was NaN or infinite. The one that was so first is named: after it, the weights
                and with them all the other terms are not finite either.
        """
        own = {name: (float(total), int(self._finite[name])) for name, total in self._sums.items()}
        ranks = world.collect(own)
        totals = {name: math.fsum(rank[name][0] for rank in ranks) / len(ranks) for name in own}
        broken = [name for name, total in totals.items() if not math.isfinite(total)]
        if broken:
            finite = {name: min(rank[name][1] for rank in ranks) for name in broken}
            first = min(broken, key=finite.__getitem__)
            raise NonFiniteLossError(
                f"the term {first!r} was NaN or infinite from step {finite[first] + 1} of {steps} on in "
                f"{where}; lower the learning rate (recipe.lr) or the weight of the term, or set recipe.clip_grad"
            )
        return {name: total / steps for name, total in totals.items()}
