"""What a strategy makes of networks that agree in everything but in how certain their logits are."""

from __future__ import annotations

from dataclasses import replace

import torch

from kdzoo.signals import student_signals, teacher_signals
from kdzoo.strategy import Outputs
from kdzoo.testing.made import Tapped
from kdzoo.testing.subject import Subject


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


def sees_confidence(subject: Subject) -> set[str]:
    """The terms that change with how certain each network is: those on a best class alone do not, nor on features.

    None of a strategy that is given the embedding and the classifier too: it can tell that these logits are not theirs.
    """
    if {"embedding", "classifier"} <= student_signals(subject.kind) | teacher_signals(subject.kind):
        return set()
    usual, others = losses(subject, 1.0, 1.0), (losses(subject, 1.3, 1.0), losses(subject, 1.0, 1.3))
    return {name for name, value in usual.items() if all(other.get(name) != value for other in others)}
