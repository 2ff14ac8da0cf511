"""What a strategy computes of the student's map to predict, kept for its terms of the same step."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


class StepCache(Generic[_T]):
    """One value for the terms of the step in which the student predicted.

    In training, ``predict`` comes before ``forward`` where the labels count, and both need the deployed layers'
    output. Kept here, the layers run once a step, and their BatchNorm counts each batch once.

    The value belongs to a map and not to an ``Outputs``: the parts of a combination are given outputs of their own,
    which hold the same maps.
    """

    def __init__(self) -> None:
        self._kept: tuple[Tensor, _T] | None = None

    def keep(self, fmap: Tensor, value: _T) -> None:
        """Keep what was made of a map, in the place of what was kept before; nothing where gradients are off."""
        self._kept = (fmap, value) if torch.is_grad_enabled() else None

    def take(self, fmap: Tensor) -> _T | None:
        """What was kept for a map, or None; nothing is kept any longer."""
        kept, self._kept = self._kept, None
        return kept[1] if kept is not None and kept[0] is fmap else None
