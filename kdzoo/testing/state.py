"""The state of a strategy beside its parameters and buffers: what a checkpoint may have forgotten."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Set
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_TORCHS_OWN = frozenset(vars(nn.Module())) - {"training"}


def plain_state(module: nn.Module) -> dict[str, Any]:
    """Attributes of a module and its submodules that are neither parameters nor submodules, by dotted name.

    Buffers are among them, so that those which ``persistent=False`` keeps out of a checkpoint are looked at too.
    """
    found: dict[str, Any] = {}
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        found |= {dot + name: value for name, value in vars(part).items() if name not in _TORCHS_OWN}
        found |= {dot + name: value for name, value in part.named_buffers(recurse=False)}
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values hold the same, bit for bit; what cannot be looked into counts as the same."""
    return bool(_frozen(one, frozenset()) == _frozen(other, frozenset()))


@singledispatch
def _frozen(value: Any, inside: frozenset[int]) -> Any:
    """What a value holds, in a form that ``==`` compares; ``inside`` are the objects around it, against cycles."""
    if id(value) in inside:
        return None
    return type(value).__name__, _frozen(dict(getattr(value, "__dict__", {})), inside | {id(value)})


@_frozen.register
def _(value: Tensor, inside: frozenset[int]) -> Any:
    flat = value.detach().cpu().flatten().contiguous()
    return value.dtype, value.shape, flat.view(torch.uint8).numpy().tobytes()


@_frozen.register
def _(value: np.ndarray, inside: frozenset[int]) -> Any:
    return value.dtype, value.shape, value.tobytes()


@_frozen.register(bool)
@_frozen.register(int)
@_frozen.register(str)
@_frozen.register(bytes)
@_frozen.register(type(None))
def _(value: Any, inside: frozenset[int]) -> Any:
    return type(value), value  # True is not 1


@_frozen.register
def _(value: float, inside: frozenset[int]) -> Any:
    return value.hex()  # NaN is what it is


@_frozen.register(list)
@_frozen.register(tuple)
@_frozen.register(deque)
def _(value: Any, inside: frozenset[int]) -> Any:
    if id(value) in inside:
        return None
    return type(value).__name__, [_frozen(each, inside | {id(value)}) for each in value]


@_frozen.register
def _(value: Mapping, inside: frozenset[int]) -> Any:  # type: ignore[type-arg]
    if id(value) in inside:
        return None
    return [(str(key), _frozen(each, inside | {id(value)})) for key, each in value.items()]


@_frozen.register
def _(value: Set, inside: frozenset[int]) -> Any:  # type: ignore[type-arg]
    return {str(each) for each in value}


@_frozen.register
def _(value: nn.Module, inside: frozenset[int]) -> Any:
    return None  # registered, and then in the state dict; or not, which another check tells


@_frozen.register
def _(value: torch.Generator, inside: frozenset[int]) -> Any:
    return value.get_state().numpy().tobytes()


@_frozen.register
def _(value: random.Random, inside: frozenset[int]) -> Any:
    return value.getstate()


@_frozen.register
def _(value: np.random.Generator, inside: frozenset[int]) -> Any:
    return str(value.bit_generator.state)
