"""The batches of a training, each epoch a function of its number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.engine.optim import Mixer
from kdzoo.outputs import Batch

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
