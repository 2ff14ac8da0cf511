"""Recipes and epochs in one call."""

from __future__ import annotations

from kdzoo import Batch
from kdzoo.data.load import LoadedData
from kdzoo.recipe import Augment, Recipe


def recipe(batch_size: int = 16, **kinds: object) -> Recipe:
    return Recipe(name="r", epochs=1, batch_size=batch_size, augment=Augment(**kinds))


def epoch(data: LoadedData, used: Recipe, *, view: int = 0, seed: int = 3, views: int = 1) -> list[Batch]:
    return list(data.train_batches(used, view=view, order_seed=seed, device="cpu", views=views))
