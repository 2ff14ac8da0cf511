"""Each loss of the zoo, and the straightforward form of its equation that it is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Form(NamedTuple):
    """One loss in two forms.

    Args:
        strategy: the strategy whose term it is.
        loss: the function in ``kdzoo_zoo.functional``.
        straightforward: the equation as the paper writes it, in plain tensor operations; same arguments, same value.
        inputs: makes the arguments, float32. Tensors that ask for gradients are those that a training would.
    """

    strategy: str
    loss: Callable[..., Tensor]
    straightforward: Callable[..., Tensor]
    inputs: Callable[[], dict[str, Any]]
