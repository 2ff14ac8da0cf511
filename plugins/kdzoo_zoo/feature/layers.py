"""Layers of the adapters and projectors on feature maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kdzoo import Signature
from kdzoo_zoo.adapters import BatchNorm


class Projector(nn.Sequential):
    """Layers in a row, the first with weights, on a map whose precision may differ from theirs."""

    @property
    def weight(self) -> nn.Parameter:
        """Of the first layer."""
        return next(self.parameters())

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W -> B x C' x H x W."""
        out: Tensor = super().forward(x.to(self.weight.dtype))  # type: ignore[no-untyped-call]
        if out.requires_grad and not out.is_contiguous() and out.is_contiguous(memory_format=torch.channels_last):
            # A loss may give its gradient in the other order, with which BatchNorm takes several times as long.
            out.register_hook(_channels_last)  # type: ignore[no-untyped-call]
        return out


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def conv_norm(channels: int, width: int, kernel: int = 1, *, activated: bool = False) -> Projector:
    """A convolution without bias that keeps the size, BatchNorm, and a ReLU where it is ``activated``."""
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return Projector(conv, BatchNorm(width), *([nn.ReLU(inplace=True)] if activated else []))


def draw_by_width(weight: Tensor) -> None:
    """Normally distributed weights of a convolution, of the scale sqrt(2 / (k k C_out)): Kaiming's start by fan-out."""
    channels, _, height, width = weight.shape
    nn.init.normal_(weight, 0.0, math.sqrt(2 / (height * width * channels)))


def pooled_text(teacher: Signature, stage: int, size: tuple[int, int], how: str = "pooled") -> str:
    """The text of a stage of the teacher that is pooled to a size, by averages or as told, for ``reduction``."""
    pooled = size != tuple(teacher.stages[stage][1:])
    return f"stages.{stage}" + (f" {how} to {size[0]}x{size[1]}" if pooled else "")
