"""Whether a hyperparameter changes anything that can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.engine.devices import seed_everything
from kdzoo.strategy import Strategy
from kdzoo.testing.calls import Call
from kdzoo.testing.moments import MOMENTS, Moment
from kdzoo.testing.plans import MOST_EPOCHS
from kdzoo.testing.state import same
from kdzoo.testing.subject import Subject


def changes_nothing(subject: Subject, others: Sequence[Subject]) -> bool:
    """Whether all of some variants of a strategy act like itself, at every moment of a training."""
    return bool(others) and all(_acts_like(other, subject) for other in others)


def _acts_like(other: Subject, subject: Subject) -> bool:
    try:
        return all(same(_look(other, moment), _look(subject, moment)) for moment in MOMENTS)
    except Exception:
        return False  # whatever breaks by it reads it


def _look(subject: Subject, moment: Moment) -> list[object]:
    """Everything that a parameter may change."""
    call = subject.call(moment=moment)
    shapes = {name: value.shape for name, value in call.strategy.state_dict().items() if isinstance(value, Tensor)}
    phases = [call.strategy.phases(epochs) for epochs in (subject.epochs, MOST_EPOCHS)]
    return [
        call.values,
        call.gradients(),
        call.strategy.ce_weight,
        shapes,
        phases,
        _own_gradients(call),
        _predictions(call),
    ]


@dataclass
class _Backward:
    """What the engine hands to ``Strategy.gradients``, of made-up networks."""

    parameters: tuple[Tensor, ...]

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        # The phases of one call share a graph, which must outlive the first of them.
        torch.autograd.backward(loss, retain_graph=True)


def _own_gradients(call: Call) -> list[Tensor | None]:
    """What a strategy that combines gradients in its own way makes of those of each phase."""
    if type(call.strategy).gradients is Strategy.gradients:
        return []
    seed_everything(0)
    own = (parameter for parameter in call.strategy.parameters() if parameter.requires_grad)
    parameters = (*call.student.sources, *own)
    found: list[Tensor | None] = []
    for phase, terms in call.phases:
        for parameter in parameters:
            parameter.grad = None
        whole = dict(terms)
        if phase.hard_labels and call.strategy.ce_weight:
            logits = call.strategy.predict(call.student.outputs).float()
            whole = {"ce": call.strategy.ce_weight * F.cross_entropy(logits, call.batch.targets)} | whole
        if whole:
            call.strategy.gradients(whole, _Backward(parameters))  # type: ignore[arg-type]
        found += [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
    return found


def _predictions(call: Call) -> list[Tensor]:
    """The logits by which the student is trained, and those by which it is measured."""
    if type(call.strategy).predict is Strategy.predict:
        return []
    found = []
    for mode in (True, False):
        seed_everything(0)
        with torch.no_grad():
            found.append(call.strategy.train(mode).predict(call.student.outputs))
    return found
