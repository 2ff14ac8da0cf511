"""Trained layers that bring the student's signals to the teacher's widths, and the BatchNorm of such layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _AnyBatch(_BatchNorm):
    """One value per channel (B = 1 and a 1x1 map) has no variance, and torch refuses it in training; its running
    statistics normalise it then, as in eval mode."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        if input.numel() > input.shape[1]:
            out: Tensor = super().forward(input)
            return out
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class BatchNorm(_AnyBatch, nn.BatchNorm2d):
    """BatchNorm of maps, B x C x H x W, for any batch."""

    shared_as = nn.BatchNorm2d


class BatchNorm1d(_AnyBatch, nn.BatchNorm1d):
    """BatchNorm of embeddings, B x D, for any batch."""

    shared_as = nn.BatchNorm1d


class ConvBatchNorm(nn.Module):
    """A 1x1 convolution without bias, then BatchNorm: B x student_channels x H x W -> B x teacher_channels x H x W.

    Args:
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)
        self.norm = BatchNorm(teacher_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Adapt the student's map; its precision may differ from the weights' own."""
        out: Tensor = self.norm(self.conv(x.to(self.conv.weight.dtype)))
        return out
