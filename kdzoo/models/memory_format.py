"""In which memory format a network trains: a rule and not a race, so that a run repeats bit for bit."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_NARROW = 16
_LARGE = 2**24


def memory_format(network: nn.Module, device: torch.device, beside: nn.Module | None = None) -> torch.memory_format:
    """The format that is faster for a network on a device, by what was measured.

    On a CPU a convolutional network with batch normalisation takes ``channels_last``: convolutions and normalisation
    then need no reordering between them (``benchmarks/steps.py`` measures it; figures in docs/performance.md).
    Everything else stays as it is:

    - networks without batch normalisation (transformers, mixers, ConvNeXt, NF-Nets) hardly gain;
    - VGG, whose classifier is a convolution with 10^8 weights, takes longer;
    - a strided 1x1 convolution of few channels (RepVGG, MobileOne) corrupts memory there in its backward pass: see
      https://github.com/uxlfoundation/oneDNN/issues/6035. It happens below 8 channels with AVX2; the rule keeps clear
      of 16, the width of AVX-512;
    - on other devices nothing was measured.

    Args:
        network: what is trained.
        device: where.
        beside: a module that reads its maps and is trained too; its convolutions get their format.
    """
    if device.type != "cpu" or not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return torch.contiguous_format
    inside = [*network.modules(), *(beside.modules() if beside is not None else ())]
    convolutions = [module for module in inside if isinstance(module, nn.Conv2d)]
    if any(_corrupts(each) or each.weight.numel() > _LARGE for each in convolutions):
        return torch.contiguous_format
    return torch.channels_last


def _corrupts(convolution: nn.Conv2d) -> bool:
    strided = max(convolution.stride) > 1 and convolution.kernel_size == (1, 1)
    return strided and convolution.in_channels // convolution.groups < _NARROW


def lay_out(network: nn.Module, device: torch.device, beside: nn.Module | None = None) -> None:
    """Bring the weights of a network into its :func:`memory_format`; names, values and parameters stay."""
    if memory_format(network, device, beside) is torch.channels_last:
        by_channels(network)


def by_channels(network: nn.Module) -> None:
    """Bring the weights of a network into ``channels_last``; torch's own way fails where there are 3d convolutions."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def keep_format(maps: Iterable[Tensor]) -> None:
    """See that the gradients of maps in ``channels_last`` come back in that memory format.

    Autograd gives the gradient of a mean over a map in the order of its dimensions. With that, the backward pass of the
    batch normalisation before the map takes longer than bringing the gradient into order does.

    Args:
        maps: what a network that is trained gives.
    """
    for each in maps:
        by_channels = each.ndim == 4 and each.is_contiguous(memory_format=torch.channels_last)
        if by_channels and each.requires_grad and not each.is_contiguous():
            each.register_hook(_in_channels_last)  # type: ignore[no-untyped-call]


def _in_channels_last(gradient: Tensor | None) -> Tensor | None:
    # None comes from a function of a plugin's own that gives its input no gradient.
    return None if gradient is None else gradient.contiguous(memory_format=torch.channels_last)
