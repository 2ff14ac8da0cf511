"""What is trained in a call: the tensors at the ends of its graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from kdzoo.strategy import Outputs
from kdzoo.testing.calls import Call


def strangers(call: Call) -> Iterator[tuple[str, Tensor]]:
    """Terms, each with a tensor that gets a gradient from it and is neither the networks' nor the strategy's own."""
    known = {id(tensor) for tensor in (*call.student.sources, *call.strategy.parameters())}
    known |= {id(tensor) for tensor in _tensors(call.teacher.outputs)}
    for name, term in call.terms.items():
        for leaf in _leaves(term):
            if id(leaf) not in known:
                yield name, leaf


def _tensors(outputs: Outputs) -> Iterator[Tensor]:
    for value in outputs.values.values():
        for part in (value,) if isinstance(value, Tensor) else tuple(value):
            if isinstance(part, Tensor):
                yield part


def _leaves(term: Tensor) -> Iterator[Tensor]:
    """The tensors in which the gradients of a term end."""
    if term.grad_fn is None:
        if term.requires_grad:
            yield term
        return
    left: list[Any] = [term.grad_fn]
    seen = set[Any]()
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            yield variable
        left += [following for following, _ in node.next_functions if following is not None]
