"""Checks of where gradients go, and of who is the student and who the teacher."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kdzoo.engine.distiller import student_signals, teacher_signals
from kdzoo.strategy import Outputs
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.losses import NO_TERMS
from kdzoo.testing.made import Drawn, Features, Pair, make_pair, make_twins, tap_student, tap_teacher
from kdzoo.testing.state import plain_state
from kdzoo.testing.subject import Subject, difference, keep


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
    gradients = call.gradients()
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        return failed("the gradient in the student's signals is NaN or infinite")
    if not any(bool(gradient.any()) for gradient in gradients):
        return failed("no gradient arrives in the student's signals")
    size = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    return passed(f"norm {size:.3g} in the student's signals")


def _teacher(subject: Subject) -> Verdict:
    pair = make_pair()
    drawn = subject.draw(pair)
    strategy = subject.build(pair.setup(subject.kind))
    copies = _copies(subject, pair, drawn)
    call = subject.call(pair, drawn, strategy=strategy)
    if call.terms and call.total.requires_grad:
        torch.autograd.backward(call.total)
    given = {"student": call.student.outputs, "teacher": call.teacher.outputs}
    for (who, outputs), copy in zip(given.items(), copies, strict=True):
        for signal, now, then in _tensors(outputs, copy):
            if not torch.equal(now, then):
                return failed(f"it writes to the {who}'s {signal}: an operation in place")
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


def _registered(subject: Subject) -> Verdict:
    strategy = subject.build(make_pair().setup(subject.kind))
    modules = set(strategy.modules())
    held = {id(tensor) for tensor in (*strategy.parameters(), *strategy.buffers())}
    for name, value in plain_state(strategy).items():
        for inner in _contents(value):
            if isinstance(inner, nn.Module) and inner not in modules and any(True for _ in inner.parameters()):
                return failed(f"self.{name} holds a module where torch does not find it, such as a plain list")
            if isinstance(inner, Tensor) and id(inner) not in held:
                return failed(f"self.{name} holds a tensor that is neither a parameter nor a buffer")
    return passed(f"{len(list(strategy.parameters()))} parameters and {len(list(strategy.buffers()))} buffers")


def _contents(value: Any) -> Iterator[Any]:
    """A value itself, or what is in it where it is a plain container."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _contents(inner)
    else:
        yield value


def _argument_order(subject: Subject) -> Verdict:
    kind = subject.kind
    names = [name.lower() for name in list(inspect.signature(kind.forward).parameters)[1:3]]
    if len(names) == 2 and (names[0].startswith("teach") or names[1].startswith("stud")):
        return failed(f"forward is given the student first and the teacher second, and calls them {', '.join(names)}")
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if not teacher_signals(kind):
        return passed("the teacher has no part in it")
    if told := _ignored(subject):
        return failed(told)
    if told := _reversed(subject):
        return failed(told)
    return _swapped(subject)


def _ignored(subject: Subject) -> str:
    """Which of the two networks the terms do not depend on, if any."""
    pair, other = make_pair(), make_pair(seed=1)
    drawn, fresh = subject.draw(pair), subject.draw(pair, seed=1)
    usual = subject.call(pair, drawn).values
    taught = subject.call(Pair(pair.student, pair.teacher, (pair.layers[0], other.layers[1])), _mixed(drawn, fresh))
    learnt = subject.call(Pair(pair.student, pair.teacher, (other.layers[0], pair.layers[1])), _mixed(fresh, drawn))
    if taught.values == usual:
        return "the terms stay the same whatever the teacher says"
    return "the terms stay the same whatever the student says" if learnt.values == usual else ""


def _mixed(student: Drawn, teacher: Drawn) -> Drawn:
    return Drawn(student.student, teacher.teacher, student.batch)


def _reversed(subject: Subject) -> str:
    """Whether a student that is certain of one class is the better, the less certain the teacher is."""
    kind = subject.kind
    # Only of a loss on logits is it known which of the two should lose more.
    others = (student_signals(kind) | teacher_signals(kind)) & {"embedding", "classifier"}
    if kind.mode_seeking or kind.symmetric or others or "logits" not in teacher_signals(kind):
        return ""
    pair = make_twins()
    drawn = subject.draw(pair)
    certain, open_minded = _with_logits(pair, drawn.student, 200.0), _with_logits(pair, drawn.student, 0.01)
    missing = float(subject.call(pair, Drawn(certain, open_minded, drawn.batch)).total)
    spread = float(subject.call(pair, Drawn(open_minded, certain, drawn.batch)).total)
    if missing < float("inf") and spread > 3 * abs(missing):
        return (
            f"a student that is certain where the teacher is not loses {missing:.3g}, the opposite one {spread:.3g}: "
            "student and teacher are swapped in the divergence"
        )
    return ""


def _with_logits(pair: Pair, features: Features, scale: float) -> Features:
    """The same features with an embedding whose logits are random and of this size."""
    weight, bias = pair.layers[0]
    assert bias is not None
    draw = torch.Generator().manual_seed(5)
    logits = scale * torch.randn(len(features.embedding), len(bias), generator=draw)
    return Features(features.stages, (logits - bias) @ torch.linalg.pinv(weight).T)


def _swapped(subject: Subject) -> Verdict:
    """Let student and teacher change places."""
    pair = make_twins()
    drawn = subject.draw(pair)
    told = difference(
        lambda seed: subject.call(pair, drawn, seed=seed).values,
        lambda seed: subject.call(pair, Drawn(drawn.teacher, drawn.student, drawn.batch), seed=seed).values,
        relative=1e-4,
        draws=subject.draws and subject.kind.symmetric,
    )
    if told and subject.kind.symmetric:
        return failed(f"symmetric is claimed, but with student and teacher swapped {told}")
    if not told and not subject.kind.symmetric:
        return warned("the terms stay the same with student and teacher swapped; claim symmetric = True if it is meant")
    return passed("with student and teacher swapped " + (told or "nothing changes, as claimed (symmetric)"))


GRADIENTS = (
    Check(
        name="registered",
        verifies="modules and tensors that `build` makes are submodules, parameters or buffers of the strategy",
        matters="what torch does not find is not trained, not moved to the device, and not in the checkpoint",
        mend="keep modules in `nn.ModuleList` or `nn.ModuleDict`, and tensors by `self.register_buffer(name, tensor)`",
        run=_registered,
    ),
    Check(
        name="gradient-student",
        verifies="every term has a gradient in the student or in an adapter, and a finite one arrives in the student",
        matters="a term that is detached from the student is logged, falls with luck, and teaches nothing",
        mend="do not call `.detach()`, `.data`, `.item()` or `argmax` on the student's signals, nor use no_grad there",
        run=_student,
        needs=("terms",),
    ),
    Check(
        name="gradient-teacher",
        verifies="no signal of the teacher gets a gradient, and no signal of either network is written to or kept as a "
        "parameter or buffer",
        matters="a teacher that moves towards the student makes the loss fall without anything being learnt, and a "
        "signal that is changed in place is wrong for whoever reads it next",
        mend="use operations that make new tensors (`x / t`, not `x.div_(t)`); take `setup.classifier`, which is a "
        "copy, where the teacher's last layer is to be trained on",
        run=_teacher,
        needs=("terms",),
    ),
    Check(
        name="argument-order",
        verifies="`forward` takes the student first; the terms depend on both networks; a student that is certain "
        "where the teacher is not loses more than the opposite one, unless `mode_seeking` is claimed; the terms change "
        "when student and teacher are swapped, unless `symmetric` is claimed",
        matters="the KL divergence with swapped arguments still trains, to another and usually worse student",
        mend="write `forward(self, student, teacher, batch)`; `F.kl_div(log_student, log_teacher, log_target=True)` "
        "has the student first; claim `mode_seeking` or `symmetric` where that is meant",
        run=_argument_order,
        needs=("terms", "repeatable"),
    ),
)
"""In the order in which they run."""
