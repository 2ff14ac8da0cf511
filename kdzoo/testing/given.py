"""Calls on logits, or on features, that are given instead of drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.signals import student_signals, teacher_signals
from kdzoo.strategy import Outputs
from kdzoo.testing.calls import Call
from kdzoo.testing.confidence import knows_its_logits
from kdzoo.testing.made import Drawn, Pair, Tapped
from kdzoo.testing.subject import Subject


def on_logits(subject: Subject, pair: Pair, drawn: Drawn, student: Tensor, teacher: Tensor) -> tuple[Call, Tensor]:
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
        values = tapped.outputs.values
        return replace(tapped, outputs=Outputs({name: logits if name == "logits" else values[name] for name in values}))

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


def on_features(subject: Subject, pair: Pair, drawn: Drawn, *changes: Callable[[Tensor], Tensor]) -> Call:
    """A call in which the student's and the teacher's maps and embedding are changed, and the logits are not."""

    def watched(tapped: Tapped, at: int) -> Tapped:
        values = dict(tapped.outputs.values)
        if "stages" in values:
            values["stages"] = tuple(map(changes[at], values["stages"]))
        if "embedding" in values:
            values["embedding"] = changes[at](values["embedding"])
        return replace(tapped, outputs=Outputs(values))

    return subject.call(pair, drawn, watched=watched)


def both_give_logits(subject: Subject) -> bool:
    """Whether the strategy asks both networks for their logits, and cannot tell that others are not theirs."""
    signals = student_signals(subject.kind), teacher_signals(subject.kind)
    return all("logits" in each for each in signals) and not knows_its_logits(subject)
