"""The check that torch knows the strategy's own parts: those that ``build`` makes, and no others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kdzoo.strategy import Setup, Strategy
from kdzoo.testing.check import Check, Verdict, failed, passed, warned
from kdzoo.testing.leaves import strangers
from kdzoo.testing.state import plain_state
from kdzoo.testing.subject import Subject

DEEPEST = 4
"""Objects within objects that are looked into."""


def _registered(subject: Subject) -> Verdict:
    setup = subject.pair().setup(subject.kind)
    strategy = subject.build(setup)
    if told := _hidden(strategy) or _made_in_a_call(subject, strategy):
        return failed(told)
    other = dict(subject.build(setup, seed=8).named_parameters())
    for name, parameter in strategy.named_parameters():
        if not parameter.requires_grad and not torch.equal(parameter, other[name]):
            return warned(f"{name} is random and not trained (requires_grad is False)")
    return passed(f"{len(list(strategy.parameters()))} parameters and {len(list(strategy.buffers()))} buffers")


def _hidden(strategy: Strategy) -> str:
    """What torch does not find of what ``build`` made, in words."""
    modules = set(strategy.modules())
    held = {id(tensor) for tensor in (*strategy.parameters(), *strategy.buffers())}
    for name, value in plain_state(strategy).items():
        for inner in _contents(value):
            if isinstance(inner, nn.Module) and inner not in modules and any(True for _ in inner.parameters()):
                return f"self.{name} holds a module where torch does not find it, such as a plain list"
            if isinstance(inner, Tensor) and id(inner) not in held:
                return f"self.{name} holds a tensor that is neither a parameter nor a buffer"
    return ""


def _made_in_a_call(subject: Subject, strategy: Strategy) -> str:
    """What is trained of what ``build`` did not make, in words."""
    before = dict(strategy.named_parameters())
    call = subject.call(strategy=strategy)
    after = dict(strategy.named_parameters())
    if fresh := sorted(name for name in after if before.get(name) is not after[name]):
        return (
            f"forward makes the parameter {', '.join(fresh)}, which no optimizer knows, as it was made after the "
            "optimizer was"
        )
    for name, tensor in strangers(call):
        return (
            f"the term {name!r} trains a tensor of {' x '.join(map(str, tensor.shape)) or 'one number'} that is no "
            "parameter of the strategy: forward makes it, such as an adapter that is new, and random, at each call"
        )
    return ""


def _contents(value: Any, depth: int = 0) -> Iterator[Any]:
    """The tensors and modules in a value, in containers and in the attributes of plain objects."""
    if isinstance(value, (Tensor, nn.Module)):
        yield value
    elif depth < DEEPEST and not isinstance(value, (Setup, type, FunctionType, ModuleType)):
        if isinstance(value, Mapping):
            inner: Collection[Any] = value.values()
        elif isinstance(value, Collection) and not isinstance(value, (str, bytes)):
            inner = value
        else:
            inner = [
                getattr(value, name, None)
                for name in (*getattr(value, "__dict__", ()), *getattr(value, "__slots__", ()))
            ]
        for each in inner:
            yield from _contents(each, depth + 1)


REGISTERED = Check(
    name="registered",
    verifies="modules and tensors that `build` makes are submodules, parameters or buffers of the strategy, also "
    "those in containers and in plain objects; `forward` makes and replaces no parameter, and nothing gets a gradient "
    "that is not a parameter of the strategy or the student's; a warning where a random parameter is not trained",
    matters="what torch does not find is not trained, not moved to the device, and not in the checkpoint; an "
    "adapter that stays random, or is new at each call, makes the student imitate noise",
    mend="make adapters in `build`, keep modules in `nn.ModuleList` or `nn.ModuleDict`, and tensors by "
    "`self.register_buffer(name, tensor)`; take `requires_grad_(False)` away from what shall learn",
    run=_registered,
    needs=("terms",),
)
