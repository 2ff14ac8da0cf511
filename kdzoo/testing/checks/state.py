"""Checks of what a strategy keeps: by torch and a checkpoint, and by sample in a memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from kdzoo.outputs import Outputs, Setup
from kdzoo.strategy import Strategy
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import plain_state, same
from kdzoo.testing.kit.networks import TRAINING_SAMPLES
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import Call

_DEEPEST = 4
"""Objects within objects that are looked into."""


def _registered(subject: Subject) -> CheckResult:
    setup = subject.pair().setup(subject.kind)
    strategy = subject.build(setup)
    if message := _hidden(strategy) or _made_in_a_call(subject, strategy):
        return failed(message)
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
    for name, tensor in _strangers(call):
        return (
            f"the term {name!r} trains a tensor of {' x '.join(map(str, tensor.shape)) or 'one number'} that is no "
            "parameter of the strategy: forward makes it, such as an adapter that is new, and random, at each call"
        )
    return ""


def _contents(value: Any, depth: int = 0) -> Iterator[Any]:
    """The tensors and modules in a value, in containers and in the attributes of plain objects."""
    if isinstance(value, (Tensor, nn.Module)):
        yield value
    elif depth < _DEEPEST and not isinstance(value, (Setup, type, FunctionType, ModuleType)):
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


def _strangers(call: Call) -> Iterator[tuple[str, Tensor]]:
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


def _memories(subject: Subject) -> CheckResult:
    pair = subject.pair()
    setup = pair.setup(subject.kind)
    sides = _by_sample(subject, setup)
    if not sides:
        return skipped("it has no buffer that is as long as the training samples are many")
    drawn, later = subject.draw(pair), subject.draw(pair, seed=4)
    # The same samples, in which the networks see something else.
    other = replace(subject.draw(pair, seed=1), batch=drawn.batch)
    fresh, strategy, elsewise = (_buffers(subject.build(setup)), subject.build(setup), subject.build(setup))
    subject.call(pair, drawn, strategy=strategy)
    subject.call(pair, other, strategy=elsewise)
    first, others = _buffers(strategy), _buffers(elsewise)
    subject.call(pair, later, strategy=strategy)
    second = _buffers(strategy)
    named = {*drawn.batch.index.tolist(), *later.batch.index.tolist()}
    for name, side in sides.items():
        # A queue goes on to other rows; what is found by the place in the batch comes to the same ones again.
        again = {*_rows_apart(first[name], others[name], side)} & {*_rows_apart(first[name], second[name], side)}
        if wrong := sorted(again - named):
            listed = ", ".join(map(str, wrong[:3])) + (" ..." if len(wrong) > 3 else "")
            return failed(
                f"self.{name} is as long as the training samples are many, and each of two batches is written to its "
                f"rows {listed}, none of which batch.index names: its rows may be found by the place in the batch"
            )
    written = ", ".join(f"self.{name}" for name in sides if not same(fresh[name], first[name]))
    return passed(f"{written}: found by batch.index, or a queue" if written else "nothing is written to it")


def _buffers(strategy: Strategy) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in strategy.named_buffers()}


def _by_sample(subject: Subject, setup: Setup) -> dict[str, int]:
    """Buffers that are longer where there are more training samples, each with the dimension of the samples."""
    longer = subject.build(replace(setup, num_samples=TRAINING_SAMPLES + 64))
    return dict(_sides(subject.build(setup), longer))


def _sides(strategy: Strategy, longer: Strategy) -> Iterator[tuple[str, int]]:
    others = dict(longer.named_buffers())
    for name, buffer in strategy.named_buffers():
        if name in others and others[name].ndim == buffer.ndim:
            for side, (length, more) in enumerate(zip(buffer.shape, others[name].shape, strict=True)):
                if (length, more) == (TRAINING_SAMPLES, TRAINING_SAMPLES + 64):
                    yield name, side


def _rows_apart(one: Tensor, other: Tensor, side: int) -> list[int]:
    """The rows, along a dimension, in which two tensors differ."""
    if one.shape != other.shape:
        return []
    left, right = (each.detach().movedim(side, 0).reshape(each.shape[side], -1) for each in (one, other))
    return [place for place in range(len(left)) if not same(left[place], right[place])]


REGISTERED = Check(
    name="registered",
    verifies="modules and tensors that `build` makes are submodules, parameters or buffers of the strategy, also "
    "those in containers and in plain objects; `forward` makes and replaces no parameter, and nothing gets a gradient "
    "that is not a parameter of the strategy or the student's; a warning where a random parameter is not trained",
    matters="modules and tensors that torch does not find are not trained, not moved to the device and not in the "
    "checkpoint; with an adapter that stays random, or is new at each call, the student imitates noise",
    mend="make adapters in `build`, keep modules in `nn.ModuleList` or `nn.ModuleDict`, and tensors by "
    "`self.register_buffer(name, tensor)`; remove `requires_grad_(False)` from parameters to train",
    run=_registered,
    needs=("terms",),
)


MEMORY_ROWS = Check(
    name="memory-rows",
    verifies="in a buffer that is as long as the training samples are many, no two batches of different samples are "
    "written to the same rows, but for those of their `batch.index`",
    matters="a row of the batch is another sample at each step, so the memory mixes up samples",
    mend="write `self.memory[batch.index] = ...`, and read by `batch.index` too",
    run=_memories,
    needs=("terms", "repeatable"),
)
