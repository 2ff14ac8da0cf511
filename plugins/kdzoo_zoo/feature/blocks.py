"""Parts of networks that several strategies build: normalisation for any batch, 1x1 maps of an embedding, shapes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Signature


class BatchNorm(nn.BatchNorm2d):
    """BatchNorm of maps, B x C x H x W, which takes a single value per channel as well.

    One value per channel (B = 1 and a 1x1 map) has no variance, and torch refuses it in training; its running
    statistics normalise it then, as in eval mode.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise a map; its precision may differ from the weights' own."""
        if input.numel() > input.shape[1]:
            out: Tensor = super().forward(input)
            return out
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def as_map(x: Tensor) -> Tensor:
    """An embedding or logits, B x D, as a map of one position, B x D x 1 x 1."""
    return x[:, :, None, None]


def has_one_resolution(network: Signature) -> bool:
    """Whether all stages of a network have one shape, as the blocks of a ViT or an MLP do."""
    return len(network.stages) > 1 and len(set(network.stages)) == 1
