"""Which form of an optimizer takes the step: one loop over the parameters, one over lists, or one fused kernel."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from timm.optim import get_optimizer_class

from kdzoo.strategy import Strategy


def form_of(name: str, device: torch.device, *, plain_gradients: bool) -> dict[str, Any]:
    """The arguments that give an optimizer its fastest form.

    On a CPU torch and timm loop over the parameters unless they are told otherwise. Measured there (one core,
    mobilenetv3_small_050, milliseconds a step; loop, lists, fused): sgd 2.6, 1.9, 0.8; adamw 6.7, 4.6, 1.6; lamb 9.9,
    5.0; radam 10.0, 5.3. The forms give the same up to rounding. On other devices their own choice stands.

    The fused kernels of the CPU read parameter, gradient and state as flat memory, and give wrong values in silence
    where these do not lie in the same order. So they serve only gradients that come from autograd as they are.

    Args:
        name: as timm calls the optimizer.
        device: where the parameters are.
        plain_gradients: whether autograd alone fills the gradients; see :func:`has_plain_gradients`.
    """
    if device.type != "cpu":
        return {}
    known = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
    if "fused" in known and plain_gradients:
        return {"fused": True}
    return {"foreach": True} if "foreach" in known else {}


def has_plain_gradients(strategy: Strategy) -> bool:
    """Whether a strategy leaves the gradients to one backward pass, and sets none of its own."""
    return type(strategy).gradients is Strategy.gradients


def load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Take up an optimizer's state, each tensor in the memory order of its parameter.

    The form stays: a checkpoint may come from a version of kdzoo that took another.

    Args:
        optimizer: freshly made for the same parameters.
        state: what its ``state_dict`` gave.
    """
    forms = [{key: group[key] for key in ("foreach", "fused") if key in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, form in zip(optimizer.param_groups, forms, strict=True):
        group.update(form)
        for parameter in group["params"]:
            values = optimizer.state.get(parameter, {})
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
