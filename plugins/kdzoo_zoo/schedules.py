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
    """Factor of a term that falls to 0 by half a cosine, epoch by epoch, in the last part of the training.

    The e-th epoch of E, counted from 1, has (1 + cos(pi (e - start E) / (E - start E))) / 2 behind start E, and 1
    before.

    Args:
        batch: says which epoch runs.
        start: share of the training after which it falls; 1 for never.
    """
    epoch, first = batch.epoch + 1, start * batch.epochs
    if epoch <= first or start >= 1:
        return 1.0
    return (1 + math.cos(math.pi * (epoch - first) / (batch.epochs - first))) / 2
