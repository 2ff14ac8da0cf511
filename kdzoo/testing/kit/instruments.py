"""What the checks use: calls on chosen signals, single steps, and comparisons of terms, signals and state."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdzoo.declarations import Phase, student_signals, teacher_signals
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.distiller import with_variants
from kdzoo.engine.train import Training
from kdzoo.outputs import Classifier, Outputs
from kdzoo.strategy import Terms
from kdzoo.testing.kit.networks import NetworkPair
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import Call, Drawn, Tapped
from kdzoo.testing.kit.trainings import CPU


def on_logits(
    subject: Subject, pair: NetworkPair, drawn: Drawn, student: Tensor, teacher: Tensor
) -> tuple[Call, Tensor]:
    """A call on these logits beside the drawn features; with the student's leaf, for gradients.

    Args:
        subject: the strategy.
        pair: the networks.
        drawn: the batch.
        student: B x classes.
        teacher: B x classes.
    """
    leaf = student.detach().clone().requires_grad_()

    def watched(tapped: Tapped, at: int) -> Tapped:
        logits = (leaf, teacher.detach().clone())[at]
        values = dict(tapped.outputs.values)
        if "heads" in values:  # as far apart as they are
            values["heads"] = tuple((head - values["logits"]).detach() + logits for head in values["heads"])
        if "logits" in values:
            values["logits"] = logits
        return replace(tapped, outputs=Outputs(values))

    return subject.call(pair, drawn, watched=watched), leaf


def fault_of(call: Call, leaf: Tensor) -> str:
    """Which term, or the gradient in these logits, is NaN or infinite; empty where none is."""
    for name, value in call.values.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    if not call.total.requires_grad:
        return ""
    (gradient,) = torch.autograd.grad(call.total, [leaf], allow_unused=True, materialize_grads=True)
    return "" if bool(gradient.isfinite().all()) else "the gradient in the student's logits is NaN or infinite"


def sizes_of(call: Call, leaf: Tensor) -> dict[str, float]:
    """The norm of each term's gradient in these logits."""
    found = {}
    for name, term in call.terms.items():
        if term.requires_grad:
            (gradient,) = torch.autograd.grad(
                term, [leaf], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            found[name] = float(gradient.norm())
    return found


def on_features(subject: Subject, pair: NetworkPair, drawn: Drawn, *changes: Callable[[Tensor], Tensor]) -> Call:
    """A call in which the student's and the teacher's maps and embedding are changed, and the logits are not."""

    def watched(tapped: Tapped, at: int) -> Tapped:
        values = dict(tapped.outputs.values)
        for name in {"stages", "pre_stages"} & values.keys():
            values[name] = tuple(map(changes[at], values[name]))
        if "embedding" in values:
            values["embedding"] = changes[at](values["embedding"])
        return replace(tapped, outputs=Outputs(values))

    return subject.call(pair, drawn, watched=watched)


def both_give_logits(subject: Subject) -> bool:
    """Whether the strategy asks both networks for their logits, and cannot tell that others are not theirs."""
    signals = student_signals(subject.kind), teacher_signals(subject.kind)
    return all("logits" in each for each in signals) and not knows_its_logits(subject)


def knows_its_logits(subject: Subject) -> bool:
    """Whether the strategy is given the embedding and the classifier, and can tell that other logits are not theirs."""
    return {"embedding", "classifier"} <= student_signals(subject.kind) | teacher_signals(subject.kind)


_Measured = Callable[[int], Mapping[str, float]]
"""Seed -> terms."""


def difference(one: _Measured, other: _Measured, *, relative: float, draws: bool, repeats: int = 48) -> str:
    """How two ways to compute the same terms differ, in words; empty where they agree.

    Args:
        one: the first way.
        other: the second way.
        relative: share of a term that rounding may take.
        draws: whether the terms depend on random numbers. Then their means over many seeds are compared, and may
            differ by five standard errors.
        repeats: seeds, where they are needed.
    """
    first, second = one(0), other(0)
    message = _unequal(first, second, relative)
    if not message or not draws:
        return message
    many, others = ([first, *map(one, range(1, repeats))], [second, *map(other, range(1, repeats))])
    for name in first:
        left, right = (_values_of_term(name, side) for side in (many, others))
        error = float((left.var() / len(left) + right.var() / len(right)).sqrt())
        gap = abs(float(left.mean() - right.mean()))
        if gap > 5 * error + relative * abs(float(right.mean())):
            return f"{name} is {left.mean():.6g} and {right.mean():.6g} (means over {repeats} seeds)"
    return ""


def _values_of_term(name: str, seeds: list[Mapping[str, float]]) -> Tensor:
    """A term under each seed that gives it."""
    return torch.tensor([terms[name] for terms in seeds if name in terms], dtype=torch.float64)


def _unequal(first: Mapping[str, float], second: Mapping[str, float], relative: float) -> str:
    if first.keys() != second.keys():
        return f"the terms are {sorted(first)} and {sorted(second)}"
    size = max((abs(value) for value in [*first.values(), *second.values()]), default=0.0)
    for name, value in first.items():
        # A comparison with NaN is false, so NaN is told.
        if not abs(value - second[name]) <= relative * max(abs(value), abs(second[name]), 1e-3 * size) + 1e-9:
            return f"{name} is {value:.6g} and {second[name]:.6g}"
    return ""


def copied(value: Any) -> Any:
    """A copy of a tensor, of a tuple of tensors, or of a classifier, that shares nothing with it."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Classifier):
        return Classifier(copied(value.weight), None if value.bias is None else copied(value.bias))
    return tuple(map(copied, value))


def copied_signals(outputs: Outputs) -> Outputs:
    """A copy of signals whose tensors share nothing with them."""
    return Outputs({name: copied(value) for name, value in outputs.values.items()})


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


def first_difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Where two outcomes differ, in words; empty where they are equal bit for bit."""
    if one.keys() != other.keys():
        return f"{sorted(one.keys() ^ other.keys())[0]} is there only once"
    for name, value in one.items():
        if not same(value, other[name]):
            return f"{name} differs"
    return ""


def one_step(training: Training, phase: Phase) -> Terms:
    """One step of a phase that was started, on the first batch, without the optimizer."""
    batches = training.data.train_batches(
        training.recipe, view=0, order_seed=1, device=CPU, views=training.strategy.views
    )
    batch = replace(next(batches), phase=phase.name, progress=0.9, epoch=9, epochs=10)
    seed_everything(99)
    batch = with_variants(training.strategy, batch)
    training.set_modes(phase)
    training.optimizer.zero_grad()
    terms = training.model(batch, training.source.open(phase, 0)(batch), phase.hard_labels)
    training.strategy.gradients(terms, training.backward)
    return dict(terms)
