"""The size of a network: parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass

from torch.utils.flop_counter import FlopCounterMode

from kdzoo.cell import DataRef
from kdzoo.models.taps import TappedModel


@dataclass(frozen=True)
class Profile:
    """What a network costs.

    Args:
        parameters: trainable and frozen.
        macs: multiply-accumulates of convolutions, matrix products and attention for one image.
    """

    parameters: int
    macs: int


def profile_model(tapped: TappedModel, data: DataRef) -> Profile:
    """Parameters of the plain network, and the MACs of one image of the dataset, in eval mode; see ``trace``."""
    tapped.signature()  # a network that must run for real is found out here, not while counting
    with FlopCounterMode(display=False) as counter:
        tapped.trace(data.img_size, {"logits"})
    return Profile(sum(p.numel() for p in tapped.model.parameters()), counter.get_total_flops() // 2)
