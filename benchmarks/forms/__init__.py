"""Each loss of the zoo, and the straightforward form of its equation that it is measured against."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Form(NamedTuple):
    """One loss in two forms.

    Args:
        name: what results call it, unique over all modules: the strategy's, and what sets several forms of it apart.
        strategy: the strategy whose term it is; of a loss that several use, the first of them.
        loss: the function in ``kdzoo_zoo.functional``.
        straightforward: the equation as the paper writes it, in plain tensor operations; same arguments, same value.
        inputs: makes the arguments, float32. Tensors that ask for gradients are those that a training would.
    """

    name: str
    strategy: str
    loss: Callable[..., Tensor]
    straightforward: Callable[..., Tensor]
    inputs: Callable[[], dict[str, Any]]


def all_forms() -> list[Form]:
    """Those of every module of ``benchmarks/forms``.

    Raises:
        ValueError: several have one name, under which their results would overwrite each other.
    """
    modules = [importlib.import_module(f"forms.{found.name}") for found in pkgutil.iter_modules(__path__)]
    found = [form for module in modules for form in module.FORMS]
    if twice := [name for name, times in Counter(form.name for form in found).items() if times > 1]:
        raise ValueError(f"several forms have one name: {', '.join(twice)}")
    return found
