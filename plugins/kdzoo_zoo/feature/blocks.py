"""What several strategies ask of shapes: embeddings as 1x1 maps, networks of one resolution."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Signature


def as_map(x: Tensor) -> Tensor:
    """An embedding or logits, B x D, as a map of one position, B x D x 1 x 1."""
    return x[:, :, None, None]


def has_one_resolution(network: Signature) -> bool:
    """Whether all stages of a network have one shape, as the blocks of a ViT or an MLP do."""
    return len(network.stages) > 1 and len(set(network.stages)) == 1
