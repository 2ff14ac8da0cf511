"""Inner products of each sample with many rows of a memory, without a tensor of all those rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Summand: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Gives, of scores n x K, the sum of a function of them, a scalar, and the function's derivative at each, n x K."""

CHUNK_ELEMENTS = {"cpu": 2**21}
"""Numbers of a memory that are copied at a time: as many as stay in a processor's cache."""

OTHER_CHUNK_ELEMENTS = 2**27
"""The same on devices that need large pieces of work."""

DENSE = 8
"""How many times as many rows as are drawn for a sample a memory may have, so that products with all rows are faster
than fetching those that are drawn."""


def sampled_sum(embedding: Tensor, memory: Tensor, index: Tensor, summand: Summand) -> Tensor:
    """Sum over b, k of a function of memory[index_bk] . embedding_b.

    The rows that are drawn have B x K x D numbers: half a gigabyte for 64 samples, 16,384 rows of each, and a width of
    128. They are fetched for a few samples at a time, and with them the gradient is summed, which has B x D numbers.
    From a memory that is hardly larger than what is drawn of it, all products are made instead. There is no second
    derivative.

    Args:
        embedding: B x D, in float32 or float64.
        memory: N x D, a constant.
        index: B x K, int64, rows of the memory; a row may occur more than once.
        summand: the function and its derivative.

    Returns:
        A scalar, differentiable in the embedding.
    """
    total: Tensor = _SampledSum.apply(embedding, memory, index, summand)
    return total


class _SampledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embedding: Tensor, memory: Tensor, index: Tensor, summand: Summand) -> Tensor:
        ways = _all_products if len(memory) <= DENSE * index.shape[1] else _drawn_products
        with torch.autocast(embedding.device.type, enabled=False):
            total, gradient = ways(embedding, memory, index, summand, ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass found."""
        if torch.is_grad_enabled():  # as it is with create_graph; what was found is a constant to autograd
            raise RuntimeError("the loss of crd has no second derivative: differentiate it without create_graph")
        (found,) = ctx.saved_tensors
        return gradient * found, None, None, None


def _all_products(
    embedding: Tensor, memory: Tensor, index: Tensor, summand: Summand, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    memory = memory.to(embedding.dtype)
    products = embedding @ memory.T
    total, slope = summand(products.gather(1, index))
    return total, products.zero_().scatter_add_(1, index, slope) @ memory if wanted else None


def _drawn_products(
    embedding: Tensor, memory: Tensor, index: Tensor, summand: Summand, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    count, width = index.shape[1], memory.shape[1]
    most = CHUNK_ELEMENTS.get(embedding.device.type, OTHER_CHUNK_ELEMENTS)
    step = min(max(1, most // (count * width)), len(embedding))
    room = memory.new_empty(step * count, width)  # used again: memory that is new costs more than the copy into it
    total, gradient = embedding.new_zeros(()), torch.empty_like(embedding) if wanted else None
    for start in range(0, len(embedding), step):
        some = slice(start, start + step)
        drawn = index[some].flatten()
        rows = torch.index_select(memory, 0, drawn, out=room[: len(drawn)])
        rows = rows.view(-1, count, width).to(embedding.dtype)
        value, slope = summand(torch.bmm(rows, embedding[some, :, None]).squeeze(2))
        total += value
        if gradient is not None:
            gradient[some] = torch.bmm(slope[:, None], rows).squeeze(1)
    return total, gradient
