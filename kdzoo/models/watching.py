"""What hooks see of a network's pass: what enters and leaves its layers, and which activation gives a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdzoo.outputs import PreActivation

SHORTCUTS = frozenset({"downsample", "shortcut", "skip", "conv_skip"})
"""Names that timm gives to what a block's input passes on its way around the block."""


@dataclass(frozen=True)
class ActivationPlace:
    """Where a stage's map comes from.

    Args:
        activation: name of the module whose output it is.
        call: in which of the module's calls in one pass.
        norm: name of the batch normalisation right before it; None where there is none, or more than one.
    """

    activation: str
    call: int
    norm: str | None

    def norm_in(self, model: nn.Module, like: Tensor) -> PreActivation:
        """What stands before the activation in a network, detached.

        Args:
            model: the network.
            like: of the kind and on the device that values have for which the normalisation keeps none.
        """
        if self.norm is None:
            return PreActivation(None, None)
        norm: Any = model.get_submodule(self.norm)
        weight, bias = norm.weight, norm.bias
        mean = norm.running_mean if norm.running_mean is not None else like.new_zeros(norm.num_features)
        weight = torch.ones_like(mean) if weight is None else weight.detach().clone()
        return PreActivation(weight, torch.zeros_like(mean) if bias is None else bias.detach().clone())


@contextmanager
def entering_layers(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What enters each layer in the pass that runs meanwhile, in the order of the layers."""
    entered = [torch.empty(0)] * len(layers)

    def tap(i: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, args: entered.__setitem__(i, args[0])

    hooks = [layer.register_forward_pre_hook(tap(i)) for i, layer in enumerate(layers)]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def leaving_layers(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """What each layer gives in the pass that runs meanwhile, in the order of the layers."""
    left = [torch.empty(0)] * len(layers)

    def tap(i: int) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, __, output: left.__setitem__(i, output)

    hooks = [layer.register_forward_hook(tap(i)) for i, layer in enumerate(layers)]
    try:
        yield left
    finally:
        for hook in hooks:
            hook.remove()


def _is_activation(module: nn.Module) -> bool:
    home = type(module).__module__
    own = home == "torch.nn.modules.activation" or home.startswith("timm.layers.activations")
    return own and not isinstance(module, nn.MultiheadAttention)


@contextmanager
def entering_activations(activations: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """What enters each activation in the pass that runs meanwhile, call by call.

    One that works in place is given a copy, or it would overwrite what is kept.
    """
    entered: dict[nn.Module, list[Tensor]] = {activation: [] for activation in activations}

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        entered[module].append(args[0])
        return (args[0].clone(), *args[1:]) if getattr(module, "inplace", False) else None

    hooks = [activation.register_forward_pre_hook(keep) for activation in entered]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class RanModule:
    """An activation or a batch normalisation that ran.

    Args:
        name: of the module.
        module: the module.
        output: what it gave; None for a normalisation, which is noted when it begins.
    """

    name: str
    module: nn.Module
    output: Tensor | None


@contextmanager
def watching(model: nn.Module) -> Iterator[list[RanModule]]:
    """The activations and batch normalisations of the pass that runs meanwhile, in their order."""
    events: list[RanModule] = []

    def began(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, args: events.append(RanModule(name, module, None))

    def ended(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, args, output: events.append(RanModule(name, module, output))

    hooks = []
    for name, module in model.named_modules():
        if _is_activation(module):
            hooks.append(module.register_forward_hook(ended(name)))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(began(name)))
    try:
        yield events
    finally:
        for hook in hooks:
            hook.remove()


def find_activation(fmap: Tensor, events: Sequence[RanModule]) -> ActivationPlace | None:
    """Which activation gave a map, and which batch normalisation ran right before it."""
    place = next((i for i, event in enumerate(events) if event.output is fmap), None)
    if place is None:
        return None
    activation = events[place]
    call = sum(event.output is not None and event.module is activation.module for event in events[:place])
    block = activation.name.rpartition(".")[0]
    since = max((i + 1 for i, event in enumerate(events[:place]) if event.output is not None), default=0)
    norms = [event for event in events[since:place] if _in_path(event.name, block, fmap.shape[1], event.module)]
    return ActivationPlace(activation.name, call, norms[0].name if len(norms) == 1 else None)


def _in_path(name: str, block: str, channels: int, norm: Any) -> bool:
    """Whether a normalisation belongs to a block, and not to its shortcut."""
    inside = name == block or not block or name.startswith(f"{block}.")
    parts = name.removeprefix(block).strip(".").split(".")
    return inside and norm.num_features == channels and SHORTCUTS.isdisjoint(parts)
