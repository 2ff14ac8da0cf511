"""Divergences on features: which of the two networks is in front."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdzoo.signals import teacher_signals
from kdzoo.testing.confidence import NOISE, knows_its_logits, usual_size
from kdzoo.testing.given import on_features
from kdzoo.testing.subject import Subject

CERTAIN, OPEN = 200.0, 0.01
"""Times the usual features: positions or channels that are told apart sharply, and hardly."""

NEVER_ZERO = 1e-3
"""How far samples that are alike are from each other, since a mean distance of 0 says nothing."""


def reversed_features(subject: Subject) -> str:
    """Where a divergence on features has student and teacher swapped, in words; empty where none has."""
    if not {"stages", "embedding"} & set(teacher_signals(subject.kind)) or knows_its_logits(subject):
        return ""
    return _within_a_sample(subject) or _between_samples(subject)


def _within_a_sample(subject: Subject) -> str:
    """By softmax over positions or channels: as with logits, one network is sure and the other is not."""

    def losses(student: float, teacher: float) -> dict[str, float]:
        twins = subject.pair().twins()
        return on_features(subject, twins, subject.draw(twins), lambda x: student * x, lambda x: teacher * x).values

    usual, sharper, clearer = losses(1, 1), losses(1.3, 1), losses(1, 1.3)
    missing, more = losses(CERTAIN, OPEN), losses(2 * CERTAIN, OPEN)
    spread, wider = losses(OPEN, CERTAIN), losses(OPEN, 2 * CERTAIN)
    for name in sorted(usual.keys() & missing.keys() & more.keys() & spread.keys() & wider.keys()):
        least = NOISE * usual_size(subject, name)
        sees = all(abs(each.get(name, math.inf) - usual[name]) > least for each in (sharper, clearer))
        # A divergence is bounded where the student is sure and stands in front, and else grows with how sure he is.
        bounded = missing[name] > 0 and abs(more[name] - missing[name]) < 0.2 * missing[name]
        grows = 1.5 < wider[name] / spread[name] < 2.6 if spread[name] > 0 else False
        if sees and bounded and grows and spread[name] > 10 * missing[name]:
            return (
                f"by {name}, a student whose features are sharp where the teacher's are flat loses "
                f"{missing[name]:.3g}, the opposite one {spread[name]:.3g}"
            )
    return ""


def _between_samples(subject: Subject) -> str:
    """By which samples are alike: in one network all are, in the other they are of two opposite kinds."""
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    noise = torch.Generator().manual_seed(3)

    def near(x: Tensor, sign: Tensor) -> Tensor:
        middle = (sign.view(-1, *(1,) * (x.ndim - 1)) * x[:1]).detach()
        return middle * (1 + NEVER_ZERO * torch.randn(x.shape, generator=noise)) + 0 * x

    def alike(x: Tensor) -> Tensor:
        return near(x, torch.ones(len(x)))

    def opposite(x: Tensor) -> Tensor:
        return near(x, 1.0 - 2.0 * (torch.arange(len(x)) % 2))

    equal = on_features(subject, twins, drawn, opposite, opposite).values
    missing = on_features(subject, twins, drawn, opposite, alike).values
    spread = on_features(subject, twins, drawn, alike, opposite).values
    for name in sorted(equal.keys() & missing.keys() & spread.keys()):
        # Where equal networks do not end at 0 it is no divergence, or an adapter stands between them.
        zero = abs(equal[name]) < 1e-2 * abs(missing[name])
        if zero and missing[name] > 1e-6 and 3 * missing[name] < spread[name] < math.inf:
            return (
                f"by {name}, a student who tells samples apart that are alike to the teacher loses "
                f"{missing[name]:.3g}, the opposite one {spread[name]:.3g}"
            )
    return ""
