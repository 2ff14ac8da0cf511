"""How the weight of a term changes in the course of a training, as the papers' recipes have it."""

from __future__ import annotations

import math

from kdzoo import Batch


def warm_up(batch: Batch, share: float) -> float:
    """Factor of a term that rises linearly, epoch by epoch, in the first part of the training.

    The e-th epoch, counted from 1, has min(e / (share x epochs), 1): with a share of 20/240, in a training of 240
    epochs, that is the min(e / 20, 1) of the recipes for CIFAR-100. A share and not a number of epochs, so that a
    short training has a warm-up as well, and an end of it.

    Args:
        batch: says which epoch runs.
        share: of the training; 0 for no warm-up.
    """
    return min((batch.epoch + 1) / (share * batch.epochs), 1.0) if share else 1.0


def cosine_decay(batch: Batch, start: float) -> float:
    """Factor of a term that falls from 1 to 0 in the last part of the training, along half a cosine, epoch by epoch.

    The e-th of E epochs, counted from 1, has (1 + cos(pi (e - s) / (E - s))) / 2 after s = start x E, and 1 before.

    Args:
        batch: says which epoch runs.
        start: share of the training after which it falls; 1 for never.
    """
    first = start * batch.epochs
    over = max(batch.epoch + 1 - first, 0.0)
    return (1 + math.cos(math.pi * over / (batch.epochs - first))) / 2 if over else 1.0
