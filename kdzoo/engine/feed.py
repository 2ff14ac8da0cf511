"""The batches of a training, each epoch a function of its number alone, and a batch made once for several trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from weakref import WeakValueDictionary

import torch

from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.engine.optim import Mixer
from kdzoo.strategy import Batch

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


class SharedFeed:
    """A feed for trainings that see the same batches and never are more than one step apart.

    Args:
        own: makes the batches.
    """

    def __init__(self, own: Feed) -> None:
        self._own = own
        self._epochs: WeakValueDictionary[int, _Latest] = WeakValueDictionary()

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, each made when the first of the trainings asks for it."""
        # Kept alive by the trainings that read it, and forgotten with the last of them.
        latest = self._epochs.get(epoch) or self._epochs.setdefault(epoch, _Latest(self._own(epoch)))
        return self._read(latest)

    @staticmethod
    def _read(latest: _Latest) -> Iterator[Batch]:
        step = 0
        while (batch := latest.take(step)) is not None:
            yield batch
            step += 1


class _Latest:
    """The last batch that was made of an epoch."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._step, self._batch = -1, None  # type: int, Batch | None

    def take(self, step: int) -> Batch | None:
        """The batch of a step: the last one again, or the next one; None behind the end of the epoch.

        Raises:
            RuntimeError: it is gone, or its turn has not come.
        """
        if step == self._step + 1:
            self._step, self._batch = step, next(self._batches, None)
        elif step != self._step:
            raise RuntimeError(f"step {step} was asked for at step {self._step} of a shared epoch")
        return self._batch
