"""The check that the hard-label loss is added once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.check import Check, Verdict, passed, skipped, warned
from kdzoo.testing.subject import Subject

LABELLINGS = 5
"""Ways to label the same batch."""

NEAR = 1e-4
"""Share by which the ratio of two losses' changes may differ between labellings and still be one number."""

ROUNDING = 1e-6
"""Share of a term that its rounding may take."""


def _labels(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    weight = subject.usual.strategy.ce_weight
    if not weight:
        return passed("the engine adds none")
    pair = subject.pair()
    drawn = subject.draw(pair)
    calls, hard = list[Call](), list[float]()
    for shift in range(LABELLINGS):
        # Nothing else changes, so what is left of a term that holds other losses too is its part in the labels.
        labels = (drawn.batch.labels + shift) % pair.student.num_classes
        calls.append(subject.call(pair, replace(drawn, batch=replace(drawn.batch, labels=labels, targets=labels))))
        hard.append(_hard_loss(calls[-1]))
    told = []
    for name in sorted(_beside_labels(calls[0]).intersection(*(call.values for call in calls))):
        if share := _share([call.values[name] for call in calls], hard):
            told.append(f"{name} holds {share:.3g} times the cross-entropy with the labels")
    if told:
        return warned(f"{', '.join(told)}, which the engine adds too, {weight:g} times")
    return passed("the engine's alone")


def _hard_loss(call: Call) -> float:
    """The cross-entropy that the engine adds, before its weight."""
    with torch.no_grad():
        return float(F.cross_entropy(call.strategy.predict(call.student.outputs).float(), call.batch.labels))


def _beside_labels(call: Call) -> set[str]:
    """The terms of the phases in which the engine adds the hard-label loss."""
    several = len(call.phases) > 1
    return {
        f"{phase.name}/{name}" if several else name
        for phase, terms in call.phases
        for name in terms
        if phase.hard_labels
    }


def _share(term: Sequence[float], hard: Sequence[float]) -> float:
    """How many times the hard-label loss a term changes by where the labels change; 0 where it is no fixed number."""
    values, losses = (torch.tensor(each, dtype=torch.float64) for each in (term, hard))
    change, moved = _changes(values), _changes(losses)
    share = float(change @ moved / (moved @ moved))
    noise = ROUNDING * float(values.abs().max())
    size, left = float(change.abs().max()), float((change - share * moved).abs().max())
    return share if size > 100 * noise and left <= NEAR * size + noise else 0.0


def _changes(values: Tensor) -> Tensor:
    return values[1:] - values[0]


LABELS = Check(
    name="labels-once",
    verifies="no term holds the cross-entropy of the student's logits with the labels, plain or smoothed, alone or "
    "beside another loss, unless `ce_weight` is 0 or the phase has no hard-label loss: on the same batch under other "
    "labels, none changes by a fixed multiple of it",
    matters="the engine adds that loss itself: twice as much of it is another balance than the paper's",
    mend="leave it out of `forward`, and set its weight by `ce_weight`",
    run=_labels,
    needs=("terms",),
)
