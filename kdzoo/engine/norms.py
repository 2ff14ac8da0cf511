"""Batch normalisation over the rows of all ranks, so that a divided batch is normalised as a whole one is."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import BatchNormAct2d, EvoNorm2dB0, EvoNorm2dB1, EvoNorm2dB2, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdzoo.engine.world import World
from kdzoo.errors import UsageError

_KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)
_NOT_SHARED = (EvoNorm2dB0, EvoNorm2dB1, EvoNorm2dB2)
"""Layers that take statistics of a batch in ways of their own."""


def share_norms(module: nn.Module, world: World, device: torch.device) -> nn.Module:
    """Make the batch normalisations of a network take their statistics from the rows of all ranks.

    On CUDA they become torch's ``SyncBatchNorm``, by timm; on the CPU, which that does not serve, they keep their place
    and change their class. Parameters, buffers and their names stay. In a world of one nothing happens. A subclass of a
    plugin is shared where its ``shared_as`` names the layer of torch that it stands for.

    Args:
        module: the network, whose forward pass all ranks run in train mode at the same time.
        world: the ranks.
        device: where it runs.

    Returns:
        The network, changed in place.

    Raises:
        UsageError: it has a layer that couples the samples of a batch in a way that is not known here.
    """
    if world.size == 1:
        return module
    for name, each in module.named_modules():
        if isinstance(each, _NOT_SHARED) or (isinstance(each, _BatchNorm) and _kind(each) not in _KNOWN):
            raise UsageError(
                f"{type(each).__name__} ({name}) takes statistics of a batch in a way of its own, which several "
                "processes cannot share; run this cell in one process"
            )
    if device.type == "cuda":
        shared: nn.Module = convert_sync_batchnorm(module)
        return shared
    for each in module.modules():
        if isinstance(each, _BatchNorm):
            each.__class__ = _SHARED[_kind(each)]
            vars(each)["_world"] = world
    return module


def _kind(norm: _BatchNorm) -> type[nn.Module]:
    """The layer of torch or timm that it is; a class of a plugin's own says in ``shared_as`` in whose place it is."""
    return getattr(norm, "shared_as", type(norm))


def _wide(values: Tensor) -> Tensor:
    """The values in float32, where they are narrower: statistics need its digits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _Normalise(torch.autograd.Function):
    """``(x - mean) / sqrt(var + eps)`` over the rows of all ranks and all but the second dimension."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, eps: float, world: World) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = _wide(values)
        axes = [axis for axis in range(values.ndim) if axis != 1]
        own_var, own_mean = torch.var_mean(wide, axes, correction=0)
        count = torch.full_like(own_mean, values.numel() / values.shape[1])
        # Sums of squares are combined from each rank's own mean: E[x^2] - E[x]^2 would lose digits.
        counts, means, variances = torch.stack(world.gather(torch.stack([count, own_mean, own_var]))).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        var = (counts * (variances + (means - mean).square())).sum(0) / total
        shape = [1, -1, *[1] * (values.ndim - 2)]
        scale = (var + eps).rsqrt()
        normal = (wide - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normal, scale, total)
        ctx.axes, ctx.shape, ctx.world, ctx.dtype = axes, shape, world, values.dtype
        ctx.mark_non_differentiable(mean, var, total)
        return normal.to(values.dtype), mean, var, total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        normal, scale, total = ctx.saved_tensors
        wide = _wide(gradient)
        sums = ctx.world.add(torch.stack([wide.sum(ctx.axes), (wide * normal).sum(ctx.axes)])) / total
        plain, along = (each.view(ctx.shape) for each in sums)
        return ((wide - plain - normal * along) * scale.view(ctx.shape)).to(ctx.dtype), None, None


class _Shared(_BatchNorm):
    """What a batch normalisation becomes; in eval mode it is what it was."""

    _world: World

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        normal, mean, var, total = _Normalise.apply(input, self.eps, self._world)
        self._track(mean, var, total)
        if self.affine:
            shape = [1, -1, *[1] * (input.ndim - 2)]
            normal = (normal * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)
        else:
            normal = normal.clone()  # the pass back needs it as it is, and an activation may work in place
        if isinstance(self, BatchNormAct2d):
            normal = self.act(self.drop(normal))
        return normal  # type: ignore[no-any-return]

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, total: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        rate = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1.0 / float(self.num_batches_tracked) if rate is None else rate
        self.running_mean.lerp_(mean, rate or 0.0)
        # A single row of all ranks together has no variance; 0 stands for it.
        self.running_var.lerp_(var * total / (total - 1).clamp(min=1), rate or 0.0)


class _Shared1d(_Shared, nn.BatchNorm1d):
    pass


class _Shared2d(_Shared, nn.BatchNorm2d):
    pass


class _Shared3d(_Shared, nn.BatchNorm3d):
    pass


class _SharedAct2d(_Shared, BatchNormAct2d):
    pass


_SHARED: dict[type[nn.Module], type[_Shared]] = {
    nn.BatchNorm1d: _Shared1d,
    nn.BatchNorm2d: _Shared2d,
    nn.BatchNorm3d: _Shared3d,
    BatchNormAct2d: _SharedAct2d,
}
