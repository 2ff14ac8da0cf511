"""Checks of the terms themselves: what forward gives, on made-up signals."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.made import make_pair, make_twins
from kdzoo.testing.subject import Call, Subject, difference

TINY = 1e-5
"""Share of a term's usual size below which it counts as zero."""

NO_TERMS = "it gives no distillation term"


def _terms(subject: Subject) -> Verdict:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        usual = subject.call()
    for name, term in usual.terms.items():
        if wrong := _not_a_term(name, term):
            return failed(wrong)
    if broadcast := [str(each.message) for each in told if "target size" in str(each.message)]:
        return failed(f"torch warns that two shapes differ and are stretched: {' '.join(broadcast[0].split())[:150]}")
    if not usual.terms:
        weight = usual.strategy.ce_weight
        return passed("no term of its own; labels alone") if weight else failed("no term, and ce_weight is 0")
    confident = subject.call(drawn=subject.draw(make_pair(), scale=20.0))
    for call, where in ((usual, ""), (confident, " where logits are large, as those of a trained teacher")):
        for name, value in call.values.items():
            if not abs(value) < float("inf"):
                return failed(f"the term {name!r} is {value}{where}")
    return passed(", ".join(f"{name} {value:.4g}" for name, value in usual.values.items()))


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


def halved(subject: Subject, *, seed: int = 0, scale: float = 1.0) -> Any:
    """A batch whose features are bfloat16, as a network gives them under autocast; its inputs stay float32."""
    drawn = subject.draw(make_pair(), seed=seed, scale=scale)
    made = drawn.map(lambda x: x.bfloat16())
    return type(made)(made.student, made.teacher, drawn.batch)


def _zero_when_equal(subject: Subject) -> Verdict:
    if not subject.kind.zero_when_equal:
        return skipped("not claimed (zero_when_equal)")
    pair = make_twins()
    apart = subject.call(pair)
    drawn = subject.draw(pair)
    equal = subject.call(pair, type(drawn)(drawn.student, drawn.student, drawn.batch))
    for name, value in equal.values.items():
        if abs(value) > TINY * abs(apart.values[name]) + 1e-9:
            return failed(f"{name} is {value:.3g} where student and teacher are equal (else {apart.values[name]:.3g})")
    return passed(", ".join(f"{name} {value:.2g}" for name, value in equal.values.items()))


def _non_negative(subject: Subject) -> Verdict:
    if not subject.kind.non_negative:
        return skipped("not claimed (non_negative)")
    pair, lowest = make_pair(), dict[str, float]()
    for seed in range(20):
        call = subject.call(pair, subject.draw(pair, seed=seed, scale=(0.1, 1.0, 10.0)[seed % 3]), seed=seed)
        for name, value in call.values.items():
            lowest[name] = min(value, lowest.get(name, value))
    for name, value in lowest.items():
        if value < -TINY * abs(subject.usual.values[name]):
            return failed(f"{name} falls to {value:.4g}")
    return passed("lowest of 20 draws: " + ", ".join(f"{name} {value:.4g}" for name, value in lowest.items()))


def _batch_order(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if subject.kind.order_dependent:
        return skipped("declared to depend on it (order_dependent)")
    pair = make_pair()
    drawn = subject.draw(pair)
    for seed in range(2):
        turned = drawn.rows(torch.randperm(8, generator=torch.Generator().manual_seed(seed)))
        told = difference(
            lambda at: subject.call(pair, drawn, seed=at).values,
            lambda at, turned=turned: subject.call(pair, turned, seed=at).values,  # type: ignore[misc]
            relative=1e-4,
            draws=subject.draws,
        )
        if told:
            return failed(f"on the same samples in another order {told}")
    return passed("the same in any order" + (", on average over what it draws" if subject.draws else ""))


def _batch_size(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    means = {size: _mean_terms(subject, size) for size in (8, 32)}
    found = []
    for name, small in means[8].items():
        large = means[32][name]
        if min(abs(small), abs(large)) < 1e-9:
            continue
        if abs(large) > 2.6 * abs(small):
            return failed(f"{name} is {small:.4g} on 8 samples and {large / small:.2g} times as much on 32")
        found.append(f"{name} {large / small:.2f} times")
    return passed("on 32 samples against 8: " + ", ".join(found) if found else "its terms are 0")


def _mean_terms(subject: Subject, samples: int) -> dict[str, float]:
    pair, seeds = make_pair(), range(3)
    calls: list[Call] = [subject.call(pair, subject.draw(pair, samples, seed=seed), seed=seed) for seed in seeds]
    return {name: sum(call.values[name] for call in calls) / len(seeds) for name in calls[0].terms}


LOSSES = (
    Check(
        name="terms",
        verifies="`forward` gives a dict of named, finite scalar tensors, none of them called `ce`, also on the large "
        "logits of a confident teacher",
        matters="the engine adds the terms up and logs each; a term of another shape stops the training, NaN ruins it",
        mend="reduce each term to a scalar with `.mean()`, take logarithms by `log_softmax`, compare equal shapes",
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
        verifies="the terms are the same on the same samples in another order, unless `order_dependent` is declared",
        matters="batches are shuffled: what depends on the order compares the wrong samples, or is noise",
        mend="compare row i only with row i or with all rows; find state by `batch.index`, not by the row; or declare "
        "`order_dependent = True`",
        run=_batch_order,
        needs=("terms", "repeatable"),
    ),
    Check(
        name="batch-size",
        verifies="no term grows with the number of samples in the batch",
        matters="a sum over the batch ties the term's weight to the batch size: the same beta means something else on "
        "another machine, and a partial batch takes a smaller step",
        mend='take the mean over the batch: `.mean()`, or `reduction="batchmean"` for the KL divergence',
        run=_batch_size,
        needs=("terms",),
    ),
)
"""In the order in which they run."""
