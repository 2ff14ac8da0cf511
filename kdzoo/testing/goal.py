"""The check of where a loss leads: to the teacher, and not around the student."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdzoo.signals import teacher_signals
from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.made import Drawn, Pair
from kdzoo.testing.subject import Subject

DRAWS = 5

STEPS = 80
"""Of the strategy's own parameters alone."""

RATE, SCALAR_RATE = 0.04, 2.0
"""Learning rates of tensors and of single numbers, such as a learned temperature, which has a longer way to go."""

GONE = 0.03
"""Share of a term from which on nothing is left of it. What cannot be foretold of the teacher is more, even beside
adapters that begin far too large."""


def _goal(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if not teacher_signals(subject.kind):
        return skipped("the teacher has no part in it")
    strategy = subject.build(subject.pair().setup(subject.kind))
    own = [parameter for parameter in strategy.parameters() if parameter.requires_grad]
    if not own:
        told = _away(subject)
        return failed(told) if told else passed("a student that equals its teacher loses no more than another")
    return _collapse(subject)


def _away(subject: Subject) -> str:
    """Where a student that equals its teacher always loses more than one that does not, in words."""
    twins = subject.pair().twins()
    apart, equal = [], []
    for seed in range(DRAWS):
        drawn = subject.draw(twins, seed=seed)
        apart.append(float(subject.call(twins, drawn, seed=seed).total.detach()))
        equal.append(float(subject.call(twins, replace(drawn, student=drawn.teacher), seed=seed).total.detach()))
    if not all(one > other + 1e-3 * abs(other) + 1e-9 for one, other in zip(equal, apart, strict=True)):
        return ""
    return (
        f"a student that equals its teacher loses {sum(equal) / DRAWS:.4g}, one that does not "
        f"{sum(apart) / DRAWS:.4g} (means of {DRAWS} draws, each of which is so): the loss leads away from the "
        "teacher, as where the sign of a similarity is forgotten"
    )


def _collapse(subject: Subject) -> Verdict:
    """Train the strategy's own parameters on networks that have nothing to do with each other.

    What a student knows of its teacher cannot be learnt there, so no term should vanish; one that does can be made
    small without the student.
    """
    pair = subject.pair()
    strategy = subject.build(pair.setup(subject.kind))
    own = [parameter for parameter in strategy.parameters() if parameter.requires_grad]
    rates = [(parameter, SCALAR_RATE if parameter.numel() == 1 else RATE) for parameter in own]
    optimizer = torch.optim.Adam(
        [{"params": parameter, "lr": rate, "top": rate} for parameter, rate in rates], betas=(0.9, 0.9)
    )
    first, last = dict[str, float](), dict[str, float]()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * (1 - step / STEPS)
        call = subject.call(pair, _unrelated(subject, pair, step), strategy=strategy, seed=step)
        names = _of_the_student(call) if step == 0 else set(first)
        found = {name: call.values[name] for name in names if name in call.terms}
        first = first or found
        last = found
        whole = sum((call.terms[name] for name in found), torch.zeros(()))
        if not whole.requires_grad or not math.isfinite(float(whole.detach())):
            break
        optimizer.zero_grad()
        _backward(whole, own)
        optimizer.step()
    for name, value in first.items():
        if value > 1e-6 and 0 <= last.get(name, math.inf) < GONE * value:
            return failed(
                f"{name} falls from {value:.4g} to {last[name]:.2g} when the strategy's own parameters alone are "
                "trained, on students that know nothing of the teacher: an adapter on the teacher's side, or a weight "
                "or a temperature that is learned, makes the loss small without the student"
            )
    told = ", ".join(f"{name} {value:.3g} to {last.get(name, math.nan):.3g}" for name, value in first.items())
    return passed(f"its own parameters alone do not do away with the loss: {told}")


def _unrelated(subject: Subject, pair: Pair, seed: int) -> Drawn:
    """A batch in which samples differ in what is left of a map by a mean over positions too, and have no mean."""
    draw = torch.Generator().manual_seed(1000 + seed)

    def afresh(x: Tensor) -> Tensor:
        each = torch.randn(*x.shape[:2], *(1,) * (x.ndim - 2), generator=draw)
        return each + 0.5 * torch.randn(x.shape, generator=draw)

    drawn = subject.draw(pair, seed=100 + seed)
    return replace(drawn, student=drawn.student.map(afresh), teacher=drawn.teacher.map(afresh))


def _backward(whole: Tensor, own: list[nn.Parameter]) -> None:
    for parameter, gradient in zip(
        own, torch.autograd.grad(whole, own, allow_unused=True, materialize_grads=True), strict=True
    ):
        parameter.grad = gradient


def _of_the_student(call: Call) -> set[str]:
    """The terms that teach the student."""
    return {
        name
        for name, term in call.terms.items()
        if term.requires_grad
        and any(
            gradient is not None and bool(gradient.any())
            for gradient in torch.autograd.grad(term, call.student.sources, retain_graph=True, allow_unused=True)
        )
    }


GOAL = Check(
    name="goal",
    verifies="a strategy without parameters of its own does not make a student that equals its teacher lose more than "
    "one that does not; one with such parameters cannot make a term vanish by them alone, on students that know "
    "nothing of the teacher",
    matters="a loss whose sign is wrong leads away from the teacher; one that its adapters can satisfy by themselves "
    "falls nicely, and teaches nothing",
    mend="take `1 - cos` or `-cos`; put the adapter on the student's side, freeze or detach the teacher's, and reverse "
    "the gradient of what shall make it harder",
    run=_goal,
    needs=("terms", "repeatable"),
)
