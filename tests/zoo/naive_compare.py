"""Value and gradient of a loss beside those of a loop over numbers, which autograd follows step by step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def assert_same(loss: Callable[..., Tensor], loop: Callable[..., Tensor], *given: Tensor) -> None:
    """Both give the same value, and the same gradient in every given tensor, in float64."""
    found = []
    for function in (loss, loop):
        leaves = [each.detach().double().clone().requires_grad_() for each in given]
        value = function(*leaves)
        found.append((value.detach(), torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)))
    (value, slopes), (expected, steps) = found
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected)
    for slope, step in zip(slopes, steps, strict=True):
        torch.testing.assert_close(slope, step, rtol=1e-6, atol=1e-9)


def assert_finite(loss: Callable[..., Tensor], *given: Tensor) -> None:
    """Value and gradients are finite."""
    leaves = [each.detach().clone().requires_grad_() for each in given]
    value = loss(*leaves)
    assert value.isfinite(), value
    for slope in torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True):
        assert slope.isfinite().all()


def assert_precisions(loss: Callable[..., Tensor], *given: Tensor) -> None:
    """Half precision is computed in float32, under autocast too; float32 stays."""
    for dtype in (torch.bfloat16, torch.float32):
        rounded = [each.to(dtype) for each in given]
        expected = loss(*(each.double() for each in rounded))
        for enabled in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                value = loss(*rounded)
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
