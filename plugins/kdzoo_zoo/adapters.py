"""Trained layers that bring the student's signals to the teacher's widths."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ConvBatchNorm(nn.Module):
    """A 1x1 convolution without bias, then BatchNorm: B x student_channels x H x W -> B x teacher_channels x H x W.

    Args:
        student_channels: channels of the student's map.
        teacher_channels: channels of the teacher's map.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(teacher_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Adapt the student's map; its precision may differ from the weights' own."""
        x = self.conv(x.to(self.conv.weight.dtype))
        if x.numel() > x.shape[1]:
            out: Tensor = self.norm(x)
            return out
        # One value per channel (B = 1 and a 1x1 map) has no variance, and BatchNorm refuses it in training.
        norm = self.norm
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
