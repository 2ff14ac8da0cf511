"""Checks of where gradients go."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.signals import teacher_signals
from kdzoo.strategy import Batch, Outputs
from kdzoo.testing.arguments import ARGUMENT_ORDER
from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.compare import copied, keep
from kdzoo.testing.confidence import sees_confidence
from kdzoo.testing.goal import GOAL
from kdzoo.testing.made import Drawn, Pair, tap_student, tap_teacher
from kdzoo.testing.registered import REGISTERED
from kdzoo.testing.subject import Subject

STILL = 0.5
"""Share of the usual gradient that may be left at a student equal to its teacher."""


def _student(subject: Subject) -> Verdict:
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
    told = _pulled_away(subject)
    return warned(told) if told else passed(f"norm {size:.3g} in the student's signals")


def _pulled_away(subject: Subject) -> str:
    """Where a loss on the logits alone moves a student that already equals its teacher, in words."""
    kind = subject.kind
    if {*kind.signals, *teacher_signals(kind)} != {"logits"} or not sees_confidence(subject):
        return ""
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    equal, apart = (_size(subject.call(twins, each)) for each in (replace(drawn, student=drawn.teacher), drawn))
    if equal <= STILL * apart:
        return ""
    return (
        f"at a student whose logits equal the teacher's the gradient has the norm {equal:.3g}, elsewhere {apart:.3g}: "
        "a logarithm may be missing, or one of the two is scaled"
    )


def _size(call: Call) -> float:
    """Norm of the gradient in the student's signals."""
    return float(torch.cat([gradient.flatten() for gradient in call.gradients()]).norm())


def _teacher(subject: Subject) -> Verdict:
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


def _copies(subject: Subject, pair: Pair, drawn: Drawn) -> tuple[Outputs, Outputs]:
    return (
        keep(tap_student(subject.kind, drawn.student, pair.layers[0]).outputs),
        keep(tap_teacher(subject.kind, drawn.teacher, pair.layers[1]).outputs),
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


GRADIENTS = (
    REGISTERED,
    Check(
        name="gradient-student",
        verifies="every term has a gradient in the student or in an adapter, and a finite one arrives in the student; "
        "a warning where a loss on the logits alone still moves a student that equals its teacher",
        matters="a term that is detached from the student is logged, falls with luck, and teaches nothing",
        mend="do not call `.detach()`, `.data`, `.item()` or `argmax` on the student's signals, nor use no_grad there; "
        "`F.kl_div` takes the student's logarithms",
        run=_student,
        needs=("terms",),
    ),
    Check(
        name="gradient-teacher",
        verifies="no signal of the teacher gets a gradient; no signal of either network, and no tensor of the batch, "
        "is written to, and no signal is kept as a parameter or buffer",
        matters="a teacher that moves towards the student makes the loss fall without anything being learnt, and a "
        "signal that is changed in place is wrong for whoever reads it next",
        mend="use operations that make new tensors (`x / t`, not `x.div_(t)`); take `setup.classifier`, which is a "
        "copy, where the teacher's last layer is to be trained on",
        run=_teacher,
        needs=("terms",),
    ),
    ARGUMENT_ORDER,
    GOAL,
)
"""In the order in which they run."""
