"""Checks of where gradients go, and of where a loss leads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdzoo.declarations import teacher_signals
from kdzoo.outputs import Batch, Outputs
from kdzoo.testing.checks.arguments import sees_confidence
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import copied, copied_signals
from kdzoo.testing.kit.networks import NetworkPair
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import NO_TERMS, Call, Drawn, tap_student, tap_teacher

_STILL = 0.5
"""Share of the usual gradient that may be left at a student equal to its teacher."""


def _student(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    call = subject.call()
    own = [parameter for parameter in call.strategy.parameters() if parameter.requires_grad]
    sources = [*call.student.sources, *own]
    for name, term in call.terms.items():
        if not term.requires_grad:
            return failed(f"the term {name!r} has no gradient: nothing that is trained enters it")
        reached = torch.autograd.grad(term, sources, retain_graph=True, allow_unused=True)
        if not any(bool(gradient.any()) for gradient in reached if gradient is not None):
            return failed(f"the gradient of the term {name!r} is 0 in the student and in all adapters")
    size = _size(call)
    if not math.isfinite(size):
        return failed("the gradient in the student's signals is NaN or infinite")
    if size == 0:
        return failed("no gradient arrives in the student's signals")
    message = _pulled_away(subject)
    return warned(message) if message else passed(f"norm {size:.3g} in the student's signals")


def _pulled_away(subject: Subject) -> str:
    """Where a loss on the logits alone moves a student that already equals its teacher, in words."""
    kind = subject.kind
    if {*kind.signals, *teacher_signals(kind)} != {"logits"} or not sees_confidence(subject):
        return ""
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    equal, apart = (_size(subject.call(twins, each)) for each in (replace(drawn, student=drawn.teacher), drawn))
    if equal <= _STILL * apart:
        return ""
    return (
        f"at a student whose logits equal the teacher's the gradient has the norm {equal:.3g}, elsewhere {apart:.3g}: "
        "a logarithm may be missing, or one of the two is scaled"
    )


def _size(call: Call) -> float:
    """Norm of the gradient in the student's signals."""
    return float(torch.cat([gradient.flatten() for gradient in call.gradients()]).norm())


def _teacher(subject: Subject) -> CheckResult:
    pair = subject.pair()
    drawn = subject.draw(pair)
    strategy = subject.build(pair.setup(subject.kind))
    copies, batch = _copies(subject, pair, drawn), _tensors_of(drawn.batch)
    known = {name: copied(value) for name, value in batch.items()}
    call = subject.call(pair, drawn, strategy=strategy)
    if call.terms and call.total.requires_grad:
        torch.autograd.backward(call.total)
    given = {"student": call.student.outputs, "teacher": call.teacher.outputs}
    for (who, outputs), copy in zip(given.items(), copies, strict=True):
        for signal, now, then in _tensors(outputs, copy):
            if not torch.equal(now, then):
                return failed(f"it writes to the {who}'s {signal}: an operation in place")
    for name, value in batch.items():
        if not torch.equal(value, known[name]):
            return failed(f"it writes to batch.{name}: an operation in place")
    for signal, now, _ in _tensors(call.teacher.outputs, call.teacher.outputs):
        if now.requires_grad or now.grad is not None:
            return failed(f"the teacher's {signal} asks for gradients after the call")
    held = {tensor.data_ptr() for tensor in strategy.state_dict().values() if isinstance(tensor, Tensor)}
    for who, outputs in given.items():
        for signal, now, _ in _tensors(outputs, outputs):
            if now.data_ptr() in held:
                return failed(f"the {who}'s {signal} itself, not a copy, is among the strategy's parameters or buffers")
    return passed("none, and no signal is written to")


def _copies(subject: Subject, pair: NetworkPair, drawn: Drawn) -> tuple[Outputs, Outputs]:
    return (
        copied_signals(tap_student(subject.kind, drawn.student, pair.layers[0]).outputs),
        copied_signals(tap_teacher(subject.kind, drawn.teacher, pair.layers[1]).outputs),
    )


def _tensors(outputs: Outputs, other: Outputs) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Every tensor of the signals beside its counterpart in other signals."""
    for signal, value in outputs.values.items():
        values = (value,) if isinstance(value, Tensor) else tuple(value)
        counterpart = other.values[signal]
        others = (counterpart,) if isinstance(counterpart, Tensor) else tuple(counterpart)
        for one, two in zip(values, others, strict=True):
            if one is not None:
                yield signal, one, two


def _tensors_of(batch: Batch) -> dict[str, Tensor]:
    return {name: getattr(batch, name) for name in ("inputs", "labels", "targets", "index")}


_DRAWS = 5

_STEPS = 80
"""Of the strategy's own parameters alone."""

_RATE, _SCALAR_RATE = 0.04, 2.0
"""Learning rates of tensors and of single numbers, such as a learned temperature, which has a longer way to go."""

_GONE = 0.03
"""Share of a term from which on nothing is left of it. What cannot be foretold of the teacher is more, even beside
adapters that begin far too large."""


def _goal(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if not teacher_signals(subject.kind):
        return skipped("the teacher has no part in it")
    strategy = subject.build(subject.pair().setup(subject.kind))
    own = [parameter for parameter in strategy.parameters() if parameter.requires_grad]
    if not own:
        message = _away(subject)
        return failed(message) if message else passed("a student that equals its teacher loses no more than another")
    return _collapse(subject)


def _away(subject: Subject) -> str:
    """Where a student that equals its teacher always loses more than one that does not, in words."""
    twins = subject.pair().twins()
    apart, equal = [], []
    for seed in range(_DRAWS):
        drawn = subject.draw(twins, seed=seed)
        apart.append(float(subject.call(twins, drawn, seed=seed).total.detach()))
        equal.append(float(subject.call(twins, replace(drawn, student=drawn.teacher), seed=seed).total.detach()))
    if not all(one > other + 1e-3 * abs(other) + 1e-9 for one, other in zip(equal, apart, strict=True)):
        return ""
    return (
        f"a student that equals its teacher loses {sum(equal) / _DRAWS:.4g}, one that does not "
        f"{sum(apart) / _DRAWS:.4g} (means of {_DRAWS} draws, each of which is so): the loss leads away from the "
        "teacher, as where the sign of a similarity is forgotten"
    )


def _collapse(subject: Subject) -> CheckResult:
    """Train the strategy's own parameters on networks that have nothing to do with each other.

    What a student knows of its teacher cannot be learnt there, so no term should vanish; one that does can be made
    small without the student.
    """
    pair = subject.pair()
    strategy = subject.build(pair.setup(subject.kind))
    own = [parameter for parameter in strategy.parameters() if parameter.requires_grad]
    rates = [(parameter, _SCALAR_RATE if parameter.numel() == 1 else _RATE) for parameter in own]
    optimizer = torch.optim.Adam(
        [{"params": parameter, "lr": rate, "top": rate} for parameter, rate in rates], betas=(0.9, 0.9)
    )
    first, last = dict[str, float](), dict[str, float]()
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * (1 - step / _STEPS)
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
        if value > 1e-6 and 0 <= last.get(name, math.inf) < _GONE * value:
            return failed(
                f"{name} falls from {value:.4g} to {last[name]:.2g} when the strategy's own parameters alone are "
                "trained, on students that know nothing of the teacher: an adapter on the teacher's side, or a weight "
                "or a temperature that is learned, makes the loss small without the student"
            )
    message = ", ".join(f"{name} {value:.3g} to {last.get(name, math.nan):.3g}" for name, value in first.items())
    return passed(f"its own parameters alone do not remove the loss: {message}")


def _unrelated(subject: Subject, pair: NetworkPair, seed: int) -> Drawn:
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


def _of_the_student(call: Call) -> list[str]:
    """The terms that teach the student, in their order."""
    return [
        name
        for name, term in call.terms.items()
        if term.requires_grad
        and any(
            gradient is not None and bool(gradient.any())
            for gradient in torch.autograd.grad(term, call.student.sources, retain_graph=True, allow_unused=True)
        )
    ]


GRADIENT_STUDENT = Check(
    name="gradient-student",
    verifies="every term has a gradient in the student or in an adapter, and a finite one arrives in the student; "
    "a warning where a loss on the logits alone still moves a student that equals its teacher",
    matters="a term that is detached from the student is logged, may fall by chance, and teaches nothing",
    mend="do not call `.detach()`, `.data`, `.item()` or `argmax` on the student's signals, nor use no_grad there; "
    "`F.kl_div` takes the student's logarithms",
    run=_student,
    needs=("terms",),
)


GRADIENT_TEACHER = Check(
    name="gradient-teacher",
    verifies="no signal of the teacher gets a gradient; no signal of either network, and no tensor of the batch, "
    "is written to, and no signal is kept as a parameter or buffer",
    matters="a teacher that moves towards the student makes the loss fall without anything being learnt, and a "
    "signal that is changed in place is wrong for the next reader",
    mend="use operations that make new tensors (`x / t`, not `x.div_(t)`); use `setup.classifier`, a copy, to "
    "train the teacher's last layer further",
    run=_teacher,
    needs=("terms",),
)


GOAL = Check(
    name="goal",
    verifies="a strategy without parameters of its own does not give a higher loss to a student that equals its "
    "teacher than to other students; a strategy with such parameters cannot make a term vanish by training them "
    "alone, on students that are unrelated to the teacher",
    matters="a loss with the wrong sign leads away from the teacher; a loss that its adapters can satisfy alone "
    "falls, and teaches nothing",
    mend="use `1 - cos` or `-cos`; put the adapter on the student's side, freeze or detach the teacher's side, "
    "and reverse the gradient of adversarial parts",
    run=_goal,
    needs=("terms", "repeatable"),
)
