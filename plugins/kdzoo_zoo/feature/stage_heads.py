"""Heads that turn a stage's map into logits: of convolutions for maps that shrink, of attention for tokens."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from kdzoo import StageShape
from kdzoo_zoo.adapters import BatchNorm

_FINEST_GRID = 7
"""Tokens a side down to which they are merged."""


class ConvolutionHead(nn.Module):
    """A map that has so many stages below it, brought to the size and width of the last one; then pooled, to logits.

    Args:
        channels: of the map.
        below: stages below it.
        width: of the final features.
        classes: how many logits.
    """

    def __init__(self, channels: int, below: int, width: int, classes: int) -> None:
        super().__init__()
        widths = [channels * 2**step for step in range(below)] + [width]
        steps: list[nn.Module] = [_separable(one, other) for one, other in pairwise(widths)]
        self.features = nn.Sequential(*(steps or [nn.Conv2d(channels, width, kernel_size=1)]))
        self.linear = nn.Linear(width, classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W -> B x classes; the map's precision may differ from the weights' own."""
        logits: Tensor = self.linear(self.features(x.to(self.linear.weight.dtype)).mean(dim=(2, 3)))
        return logits


def _separable(channels: int, out: int) -> nn.Module:
    """Two separable convolutions, the first with stride 2."""

    def half(width: int, stride: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)
        return [depthwise, nn.Conv2d(channels, width, kernel_size=1, bias=False), BatchNorm(width), nn.ReLU()]

    return nn.Sequential(*half(channels, 2), *half(out, 1))


class TokenHead(nn.Module):
    """Tokens, merged to a smaller grid, through transformer blocks; then their mean, to logits.

    Args:
        shape: of the map that the tokens make.
        below: stages below it.
        classes: how many logits.
    """

    def __init__(self, shape: StageShape, below: int, classes: int) -> None:
        super().__init__()
        # Imported here, so that listing the strategies does not wait for it.
        from timm.models.vision_transformer import Block

        width, height, across = shape.channels, shape.height, shape.width
        merges: list[nn.Module] = []
        while min(height, across) // 2 >= _FINEST_GRID and height % 2 == 0 and across % 2 == 0:
            height, across = height // 2, across // 2
            merges.append(_Merge(width))
        if len(merges) > 1:
            merges[-1] = _Merge(width, activates=False)
        self.merges = nn.Sequential(*merges)
        self.blocks = nn.Sequential(*(Block(dim=width, num_heads=4) for _ in range(max(below, 1))))
        self.linear = nn.Linear(width, classes)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W -> B x classes; the map's precision may differ from the weights' own."""
        tokens = self.merges(x.to(self.linear.weight.dtype).permute(0, 2, 3, 1)).flatten(1, 2)
        logits: Tensor = self.linear(self.blocks(tokens).mean(dim=1))
        return logits


class _Merge(nn.Module):
    """Each 2 x 2 tokens become one, as in a Swin transformer; B x H x W x C -> B x H/2 x W/2 x C."""

    def __init__(self, width: int, activates: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.linear = nn.Linear(4 * width, width, bias=False)
        self.activation = nn.GELU() if activates else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        merged: Tensor = self.activation(self.linear(self.norm(torch.cat(corners, dim=-1))))
        return merged


def _initialize(module: nn.Module) -> None:
    """Kaiming's normal distribution, by fan-out, for convolutions; a truncated one for linear layers."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
