"""Naive loops for the losses on feature maps, and how a loss is compared with one, value and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def maps(*shape: int) -> Tensor:
    """A random map in float64 that asks for gradients."""
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def pooled(fmap: Tensor, height: int, width: int) -> Tensor:
    """Adaptive average pooling of B x C x H x W, by its definition."""
    rows, columns = fmap.shape[-2:]
    lines = []
    for i in range(height):
        top, bottom = i * rows // height, -(-(i + 1) * rows // height)
        cells = []
        for j in range(width):
            left, right = j * columns // width, -(-(j + 1) * columns // width)
            cells.append(sum(fmap[..., y, x] for y in range(top, bottom) for x in range(left, right)))
            cells[-1] = cells[-1] / ((bottom - top) * (right - left))
        lines.append(torch.stack(cells, dim=-1))
    return torch.stack(lines, dim=-2)


def leaves(arguments: dict[str, Any]) -> list[Tensor]:
    """All tensors among the arguments that ask for gradients."""
    parts = [part for value in arguments.values() for part in (value if isinstance(value, (list, tuple)) else [value])]
    return [part for part in parts if isinstance(part, Tensor) and part.requires_grad]


def assert_equals_naive(loss: Callable[..., Tensor], naive: Callable[..., Tensor], **arguments: Any) -> None:
    """The loss and its gradients in all arguments are those of the naive form, in float64."""
    found = []
    for form in (loss, naive):
        value = form(**arguments)
        found.append((value, torch.autograd.grad(value, leaves(arguments), materialize_grads=True, allow_unused=True)))
    (value, slopes), (expected, others) = found
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(slopes, others, rtol=1e-7, atol=1e-10)


def assert_sound(loss: Callable[..., Tensor], **arguments: Any) -> None:
    """In float32 and bf16, large and small, the loss is float32 and finite, as are its gradients."""
    for dtype in (torch.float32, torch.bfloat16):
        for scale in (1e4, 1.0, 1e-4, 0.0):

            def cast(value: Any, dtype: torch.dtype = dtype, scale: float = scale) -> Any:
                if isinstance(value, (list, tuple)):
                    return [cast(each) for each in value]
                return (value.detach() * scale).to(dtype).requires_grad_() if isinstance(value, Tensor) else value

            given = {name: cast(value) for name, value in arguments.items()}
            value = loss(**given)
            assert value.dtype == torch.float32
            assert value.isfinite(), (dtype, scale)
            for slope in torch.autograd.grad(value, leaves(given), allow_unused=True, materialize_grads=True):
                assert slope.isfinite().all(), (dtype, scale)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                torch.testing.assert_close(loss(**given), value, rtol=1e-6, atol=0)
