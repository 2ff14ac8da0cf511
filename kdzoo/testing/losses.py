"""Checks of the terms themselves: what forward gives, on made-up signals."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kdzoo.signals import teacher_signals
from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.compare import difference
from kdzoo.testing.labels import LABELS
from kdzoo.testing.made import Drawn
from kdzoo.testing.moments import MOMENTS
from kdzoo.testing.sizes import BATCH_SIZE
from kdzoo.testing.subject import Subject

TINY = 1e-5
"""Share of a term's usual size below which it counts as zero."""

LARGE = 60.0
"""Scale of the features at which the logits of a sample are up to 200 apart: the smallest probabilities are 0."""

FAULTS = {
    "target size": "two shapes differ and are stretched",
    "reduction: 'mean' divides": "a divergence is averaged over the classes too",
}
"""What a warning of torch says -> what is wrong."""


def _terms(subject: Subject) -> Verdict:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        calls = subject.calls
    for name, term in (each for call in calls.values() for each in call.terms.items()):
        if wrong := _not_a_term(name, term):
            return failed(wrong)
    for message in (str(each.message) for each in told):
        if fault := next((fault for sign, fault in FAULTS.items() if sign in message), ""):
            return failed(f"torch warns that {fault}: {' '.join(message.split())[:150]}")
    usual = subject.usual
    if not usual.terms:
        return _labels_alone(subject)
    if fault := _overwritten(usual):
        return failed(fault)
    large = " where logits are large, as those of a trained teacher"
    looks = [(call, large if moment.scale > 1 else "") for moment, call in calls.items()]
    looks.append((subject.call(drawn=subject.draw(subject.pair(), scale=LARGE)), large))
    for call, where in looks:
        for name, value in call.values.items():
            if not abs(value) < float("inf"):
                return failed(f"the term {name!r} is {value}{where}")
    when = "" if subject.moment == MOMENTS[0] else f" ({subject.moment.told})"
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


def _labels_alone(subject: Subject) -> Verdict:
    if teacher_signals(subject.kind):
        tried = "; ".join(moment.told for moment in MOMENTS if moment.scale == 1)
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


def _float32(subject: Subject) -> Verdict:
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


def _zero_when_equal(subject: Subject) -> Verdict:
    if not subject.kind.zero_when_equal:
        return skipped("not claimed (zero_when_equal)")
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    apart = subject.call(twins, drawn).values
    equal = subject.call(twins, replace(drawn, student=drawn.teacher)).values
    for name, value in equal.items():
        if abs(value) > TINY * abs(apart.get(name, 0.0)) + 1e-9:
            return failed(
                f"{name} is {value:.3g} where student and teacher are equal (else {apart.get(name, 0.0):.3g})"
            )
    return passed(", ".join(f"{name} {value:.2g}" for name, value in equal.items()))


def _non_negative(subject: Subject) -> Verdict:
    if not subject.kind.non_negative:
        return skipped("not claimed (non_negative)")
    pair, values = subject.pair(), dict[str, list[float]]()
    for seed in range(20):
        call = subject.call(pair, subject.draw(pair, seed=seed, scale=(0.1, 1.0, 10.0)[seed % 3]), seed=seed)
        for name, value in call.values.items():
            values.setdefault(name, []).append(value)
    for name, found in values.items():
        if min(found) < -TINY * abs(subject.usual.values.get(name, max(found))):
            return failed(f"{name} falls to {min(found):.4g}")
    return passed("lowest of 20 draws: " + ", ".join(f"{name} {min(found):.4g}" for name, found in values.items()))


def _batch_order(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    drawn = subject.draw(pair)
    # The same samples were there before, in this order: a memory may know them by their index and not by their row.
    before = replace(subject.draw(pair, seed=1), batch=drawn.batch)
    # So were those whose numbers are places in a batch, for what reads a memory by the place.
    others = subject.draw(pair, seed=2)
    others = replace(others, batch=replace(others.batch, index=torch.arange(8).repeat(others.views)))

    def terms(seed: int, order: Tensor) -> dict[str, float]:
        strategy = subject.build(pair.setup(subject.kind))
        for seen in (others, before):
            subject.call(pair, seen, strategy=strategy, seed=seed)
        return subject.call(pair, drawn.rows(order), strategy=strategy, seed=seed).values

    told = ""
    for seed in range(2):
        other = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
        told = told or difference(
            partial(terms, order=torch.arange(8)), partial(terms, order=other), relative=1e-4, draws=subject.draws
        )
    if subject.kind.order_dependent:
        if told:
            return skipped(f"declared to depend on it (order_dependent): in another order {told}")
        return warned("order_dependent is claimed, and the terms are the same in any order: drop the claim")
    if told:
        return failed(f"on the same samples in another order {told}")
    return passed("the same in any order" + (", on average over what it draws" if subject.draws else ""))


LOSSES = (
    Check(
        name="terms",
        verifies="`forward` gives a dict of named, finite scalar tensors, none of them called `ce`, early and late in "
        "the training, on a batch that is new and on one that was seen before, and on the large logits of a confident "
        "teacher; a strategy that asks for the teacher's signals gives some; torch does not warn of stretched shapes "
        "or of a divergence that is averaged over the classes",
        matters="the engine adds the terms up and logs each; a term of another shape stops the training, NaN ruins it; "
        "the other checks look at the moment at which most terms are there",
        mend="reduce each term to a scalar with `.mean()`, take logarithms by `log_softmax`, compare equal shapes; "
        'give the KL divergence `reduction="batchmean"`; raise `PairError` in `build`, and only for networks that do '
        "not fit",
        run=_terms,
    ),
    Check(
        name="float32",
        verifies="every term is float32, from float32 signals and from bfloat16 ones under autocast",
        matters="a loss that is summed in half precision keeps three digits, and its small gradients vanish",
        mend="begin with `student.logits.float()` (and the like for each signal), and compute the loss in float32",
        run=_float32,
        needs=("terms",),
    ),
    Check(
        name="zero-when-equal",
        verifies="where `zero_when_equal` is claimed, every term is 0 when student and teacher give the same signals",
        matters="a distance that is not 0 at its target pulls the student away from the teacher",
        mend="subtract what is left at the target (for example the teacher's entropy), or drop the claim",
        run=_zero_when_equal,
        needs=("terms",),
    ),
    Check(
        name="non-negative",
        verifies="where `non_negative` is claimed, no term falls below 0 on 20 draws of different scales",
        matters="a distance below 0 rewards the student for leaving the target; often a sign or an argument is swapped",
        mend="look for a missing logarithm, a swapped sign or swapped arguments, or drop the claim",
        run=_non_negative,
        needs=("terms",),
    ),
    Check(
        name="batch-order",
        verifies="the terms are the same on samples that were seen before and come in another order, unless "
        "`order_dependent` is declared; a warning where it is declared and not so",
        matters="batches are shuffled: what depends on the order compares the wrong samples, or is noise",
        mend="compare row i only with row i or with all rows; find state by `batch.index`, not by the row; or declare "
        "`order_dependent = True`",
        run=_batch_order,
        needs=("terms", "repeatable"),
    ),
    BATCH_SIZE,
    LABELS,
)
"""In the order in which they run."""
