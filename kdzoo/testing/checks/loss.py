"""Checks of the terms themselves: what forward gives, on made-up signals."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.declarations import teacher_signals
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.subject import MOMENTS, Subject
from kdzoo.testing.kit.synthetic import NO_TERMS, Call, Drawn

_TINY = 1e-5
"""Share of a term's usual size below which it counts as zero."""

_LARGE = 60.0
"""Scale of the features at which the logits of a sample are up to 200 apart: the smallest probabilities are 0."""

_FAULTS = {
    "target size": "two shapes differ and are stretched",
    "reduction: 'mean' divides": "a divergence is averaged over the classes too",
}
"""What a warning of torch says -> what is wrong."""


def _terms(subject: Subject) -> CheckResult:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        calls = subject.calls
    for name, term in (each for call in calls.values() for each in call.terms.items()):
        if wrong := _not_a_term(name, term):
            return failed(wrong)
    for message in (str(each.message) for each in raised):
        if fault := next((fault for sign, fault in _FAULTS.items() if sign in message), ""):
            return failed(f"torch warns that {fault}: {' '.join(message.split())[:150]}")
    usual = subject.usual
    if not usual.terms:
        return _labels_alone(subject)
    if fault := _overwritten(usual):
        return failed(fault)
    large = " where logits are large, as those of a trained teacher"
    looks = [(call, large if moment.scale > 1 else "") for moment, call in calls.items()]
    looks.append((subject.call(drawn=subject.draw(subject.pair(), scale=_LARGE)), large))
    for call, where in looks:
        for name, value in call.values.items():
            if not abs(value) < float("inf"):
                return failed(f"the term {name!r} is {value}{where}")
    when = "" if subject.moment == MOMENTS[0] else f" ({subject.moment.description})"
    return passed(", ".join(f"{name} {value:.4g}" for name, value in usual.values.items()) + when)


def _overwritten(call: Call) -> str:
    """What torch says of a loss whose backward pass cannot go back, in other words."""
    try:
        call.gradients()
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return (
            "the gradient cannot be computed: a tensor that the loss reads is overwritten before; a slice such as "
            "self.memory[:n] is a view, so read a copy (self.memory[batch.index], or .clone()), or write after the step"
        )
    return ""


def _labels_alone(subject: Subject) -> CheckResult:
    if teacher_signals(subject.kind):
        tried = "; ".join(moment.description for moment in MOMENTS if moment.scale == 1)
        return failed(
            f"it asks for the teacher's signals, and gives no term at any time that was tried, be the networks sure or "
            f"not: {tried}"
        )
    weight = subject.usual.strategy.ce_weight
    return passed("no term of its own; labels alone") if weight else failed("no term, and ce_weight is 0")


def _not_a_term(name: str, term: Any) -> str:
    if not isinstance(term, Tensor):
        return f"the term {name!r} is a {type(term).__name__}, not a tensor"
    if term.ndim:
        return f"the term {name!r} has the shape {tuple(term.shape)}, and must be a scalar"
    return "a term is named 'ce', as the hard-label loss is called" if name.rpartition("/")[2] == "ce" else ""


def _float32(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    half = subject.call(drawn=halved(subject), precision=torch.autocast("cpu", dtype=torch.bfloat16))
    for given, call in (("float32", subject.usual), ("bfloat16", half)):
        for name, term in call.terms.items():
            if term.dtype != torch.float32:
                return failed(f"from {given} signals the term {name!r} is {term.dtype}".replace("torch.", ""))
    return passed("from float32 and from bfloat16 signals")


def halved(subject: Subject) -> Drawn:
    """A batch whose features are bfloat16, as a network gives them under autocast; its inputs stay float32."""
    drawn = subject.draw(subject.pair())
    return replace(drawn.map(lambda x: x.bfloat16()), batch=drawn.batch)


def _zero_when_equal(subject: Subject) -> CheckResult:
    if not subject.kind.zero_when_equal:
        return skipped("not claimed (zero_when_equal)")
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    apart = subject.call(twins, drawn).values
    equal = subject.call(twins, replace(drawn, student=drawn.teacher)).values
    for name, value in equal.items():
        if abs(value) > _TINY * abs(apart.get(name, 0.0)) + 1e-9:
            return failed(
                f"{name} is {value:.3g} where student and teacher are equal (else {apart.get(name, 0.0):.3g})"
            )
    return passed(", ".join(f"{name} {value:.2g}" for name, value in equal.items()))


def _non_negative(subject: Subject) -> CheckResult:
    if not subject.kind.non_negative:
        return skipped("not claimed (non_negative)")
    pair, values = subject.pair(), dict[str, list[float]]()
    for seed in range(20):
        call = subject.call(pair, subject.draw(pair, seed=seed, scale=(0.1, 1.0, 10.0)[seed % 3]), seed=seed)
        for name, value in call.values.items():
            values.setdefault(name, []).append(value)
    for name, found in values.items():
        if min(found) < -_TINY * abs(subject.usual.values.get(name, max(found))):
            return failed(f"{name} falls to {min(found):.4g}")
    return passed("lowest of 20 draws: " + ", ".join(f"{name} {min(found):.4g}" for name, found in values.items()))


_LABELLINGS = 5
"""Ways to label the same batch."""

_NEAR = 1e-4
"""Share by which the ratio of two losses' changes may differ between labellings and still be one number."""

_ROUNDING = 1e-6
"""Share of a term that its rounding may take."""


def _labels(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    weight = subject.usual.strategy.ce_weight
    if not weight:
        return passed("the engine adds none")
    pair = subject.pair()
    drawn = subject.draw(pair)
    calls, hard = list[Call](), list[float]()
    for shift in range(_LABELLINGS):
        # Nothing else changes, so what is left of a term that holds other losses too is its part in the labels.
        labels = (drawn.batch.labels + shift) % pair.student.num_classes
        calls.append(subject.call(pair, replace(drawn, batch=replace(drawn.batch, labels=labels, targets=labels))))
        hard.append(_hard_loss(calls[-1]))
    shares = []
    for name in sorted(_beside_labels(calls[0]).intersection(*(call.values for call in calls))):
        if share := _share([call.values[name] for call in calls], hard):
            shares.append(f"{name} holds {share:.3g} times the cross-entropy with the labels")
    if shares:
        return warned(f"{', '.join(shares)}, which the engine adds too, {weight:g} times")
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
    noise = _ROUNDING * float(values.abs().max())
    size, left = float(change.abs().max()), float((change - share * moved).abs().max())
    return share if size > 100 * noise and left <= _NEAR * size + noise else 0.0


def _changes(values: Tensor) -> Tensor:
    return values[1:] - values[0]


TERMS = Check(
    name="terms",
    verifies="`forward` gives a dict of named, finite scalar tensors, none of them called `ce`, early and late in "
    "the training, on a batch that is new and on one that was seen before, and on the large logits of a confident "
    "teacher; a strategy that asks for the teacher's signals gives some; torch does not warn of stretched shapes "
    "or of a divergence that is averaged over the classes",
    matters="the engine adds the terms and logs each; a term of another shape stops the training, NaN ruins it; "
    "the other checks use the epoch with the most terms",
    mend="reduce each term to a scalar with `.mean()`, use `log_softmax` for logarithms, compare equal shapes; "
    'give the KL divergence `reduction="batchmean"`; raise `PairError` in `build`, and only for networks that do '
    "not fit",
    run=_terms,
)


FLOAT32 = Check(
    name="float32",
    verifies="every term is float32, from float32 signals and from bfloat16 ones under autocast",
    matters="a loss summed in half precision has three digits, and its small gradients vanish",
    mend="begin with `student.logits.float()` (and the like for each signal), and compute the loss in float32",
    run=_float32,
    needs=("terms",),
)


ZERO_WHEN_EQUAL = Check(
    name="zero-when-equal",
    verifies="where `zero_when_equal` is claimed, every term is 0 when student and teacher give the same signals",
    matters="a distance that is not 0 at its target pulls the student away from the teacher",
    mend="subtract its value at the target (for example the teacher's entropy), or drop the claim",
    run=_zero_when_equal,
    needs=("terms",),
)


NON_NEGATIVE = Check(
    name="non-negative",
    verifies="where `non_negative` is claimed, no term falls below 0 on 20 draws of different scales",
    matters="a distance below 0 rewards the student for leaving the target; often a sign or an argument is swapped",
    mend="look for a missing logarithm, a swapped sign or swapped arguments, or drop the claim",
    run=_non_negative,
    needs=("terms",),
)


LABELS_ONCE = Check(
    name="labels-once",
    verifies="no term holds the cross-entropy of the student's logits with the labels, plain or smoothed, alone or "
    "beside another loss, unless `ce_weight` is 0 or the phase has no hard-label loss: on the same batch under other "
    "labels, none changes by a fixed multiple of it",
    matters="the engine adds that loss itself: counted twice, the balance is not the paper's",
    mend="leave it out of `forward`, and set its weight by `ce_weight`",
    run=_labels,
    needs=("terms",),
)
