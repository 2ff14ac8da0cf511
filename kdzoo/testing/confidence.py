"""What a strategy makes of networks that agree in everything but in how certain their logits are."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from kdzoo.signals import student_signals, teacher_signals
from kdzoo.strategy import Outputs
from kdzoo.testing.made import Tapped
from kdzoo.testing.subject import Subject

NOISE = 1e-5
"""Share of a term's usual size that rounding may change where the term sees no difference."""


def losses(subject: Subject, student: float, teacher: float) -> dict[str, float]:
    """The terms on two equal networks whose logits are one random draw, times a number for each of them."""
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    shape = (len(drawn.teacher.embedding), twins.student.num_classes)
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(5))

    def watched(tapped: Tapped, at: int) -> Tapped:
        own = ((student, teacher)[at] * logits).requires_grad_(at == 0)
        values = tapped.outputs.values
        return replace(tapped, outputs=Outputs({name: own if name == "logits" else values[name] for name in values}))

    return subject.call(twins, replace(drawn, student=drawn.teacher), watched=watched).values


def usual_size(subject: Subject, name: str) -> float:
    """Of a term, where the networks differ; 0 where it is not there."""
    return abs(subject.usual.values.get(name, 0.0))


def knows_its_logits(subject: Subject) -> bool:
    """Whether the strategy is given the embedding and the classifier, and can tell that other logits are not theirs."""
    return {"embedding", "classifier"} <= student_signals(subject.kind) | teacher_signals(subject.kind)


def sees_confidence(subject: Subject) -> set[str]:
    """The terms that change with how certain each network is: those on a best class alone do not, nor on features.

    None of a strategy that knows its logits.
    """
    if knows_its_logits(subject):
        return set()
    scale = subject.moment.scale
    usual = losses(subject, scale, scale)
    others = losses(subject, 1.3 * scale, scale), losses(subject, scale, 1.3 * scale)

    def sees(name: str, value: float) -> bool:
        least = NOISE * usual_size(subject, name)
        return all(abs(other.get(name, math.inf) - value) > least for other in others)

    return {name for name, value in usual.items() if sees(name, value)}
