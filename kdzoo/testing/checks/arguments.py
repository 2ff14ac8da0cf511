"""The check of who is the student and who the teacher."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.declarations import teacher_signals
from kdzoo.outputs import Outputs
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import difference, knows_its_logits, on_features
from kdzoo.testing.kit.networks import NetworkPair
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import NO_TERMS, Drawn, Tapped

_CERTAIN, _OPEN = 200.0, 0.01
"""Size of the logits, or times the usual features, of a network that is sure, and of one that is not."""

_SILENT = 1e-3
"""Share of its usual size below which a term says nothing: it is rounding, or waits for a surer teacher."""


def _argument_order(subject: Subject) -> CheckResult:
    kind = subject.kind
    names = [name.lower() for name in list(inspect.signature(kind.forward).parameters)[1:3]]
    if len(names) == 2 and (names[0].startswith("teach") or names[1].startswith("stud")):
        return failed(f"forward is given the student first and the teacher second, and calls them {', '.join(names)}")
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if not teacher_signals(kind):
        return passed("the teacher has no part in it")
    if message := _ignored(subject):
        return failed(message)
    return _divergence(subject)


def _divergence(subject: Subject) -> CheckResult:
    kind = subject.kind
    message, unseen = ("", "") if kind.symmetric else _reversed(subject)
    message = message or ("" if kind.symmetric else _reversed_features(subject))
    if message and not kind.mode_seeking:
        return failed(
            f"{message}: student and teacher are swapped in the divergence; if that is meant, claim mode_seeking = True"
        )
    swapped = _swapped(subject)
    if unseen and swapped.status == "ok":
        return passed(f"{swapped.text}; {unseen}")
    if kind.mode_seeking and not (message or unseen) and swapped.status != "fail":
        return warned("mode_seeking is claimed, and no term on the logits is so: drop the claim")
    return swapped


def _ignored(subject: Subject) -> str:
    """Which of the two networks the terms do not depend on, if any."""
    pair, other = subject.pair(), subject.pair(seed=1)
    drawn, fresh = subject.draw(pair), subject.draw(pair, seed=1)
    taught = subject.call(
        NetworkPair(pair.student, pair.teacher, (pair.layers[0], other.layers[1])),
        replace(drawn, teacher=fresh.teacher),
    )
    learnt = subject.call(
        NetworkPair(pair.student, pair.teacher, (other.layers[0], pair.layers[1])),
        replace(drawn, student=fresh.student),
    )
    usual = subject.call(pair, drawn).values
    if taught.values == usual:
        return "the terms stay the same whatever the teacher says"
    return "the terms stay the same whatever the student says" if learnt.values == usual else ""


def _reversed(subject: Subject) -> tuple[str, str]:
    """Where a student that is certain of one class is the better, the less certain the teacher is; term by term.

    Returns:
        In words, what is reversed, and what cannot be seen.
    """
    if "logits" not in teacher_signals(subject.kind):
        return "", ""
    if knows_its_logits(subject):
        return (
            "",
            "which of them is in front in a divergence is not looked at: made-up logits do not fit its classifier",
        )
    seeing = sees_confidence(subject)
    missing, spread = (
        losses_by_confidence(subject, *sizes) if seeing else {} for sizes in ((_CERTAIN, _OPEN), (_OPEN, _CERTAIN))
    )
    silent, adapted = [], _adapted(subject) & seeing
    for name in sorted((seeing - adapted) & missing.keys() & spread.keys()):
        if abs(missing[name]) <= _SILENT * usual_size(subject, name):
            silent.append(name)
        elif missing[name] < float("inf") and spread[name] > 3 * abs(missing[name]):
            return (
                f"by {name}, a student that is certain where the teacher is not loses {missing[name]:.3g}, "
                f"the opposite one {spread[name]:.3g}"
            ), ""
    if adapted:
        said = f"{', '.join(sorted(adapted))} has layers of its own, which know no certainty before they are trained"
        return "", f"{said}, so which network is in front there is not looked at"
    message = (
        f"{', '.join(silent)} says nothing of an unsure teacher, so which of them is in front there is not looked at"
    )
    return "", message if silent else ""


def _adapted(subject: Subject) -> set[str]:
    """The terms with layers of the strategy's own in them; a single number, such as a temperature, is none."""
    call = subject.call()
    own = [each for each in call.strategy.parameters() if each.requires_grad and each.numel() > 1]
    return {
        name
        for name, term in call.terms.items()
        if own
        and term.requires_grad
        and any(part is not None for part in torch.autograd.grad(term, own, retain_graph=True, allow_unused=True))
    }


def _swapped(subject: Subject) -> CheckResult:
    """Let student and teacher change places."""
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    turned = Drawn(drawn.teacher, drawn.student, drawn.batch, drawn.views)
    message = difference(
        lambda seed: subject.call(twins, drawn, seed=seed).values,
        lambda seed: subject.call(twins, turned, seed=seed).values,
        relative=1e-4,
        draws=subject.draws and subject.kind.symmetric,
    )
    if message and subject.kind.symmetric:
        return failed(f"symmetric is claimed, but with student and teacher swapped {message}")
    if not message and not subject.kind.symmetric:
        return warned("the terms stay the same with student and teacher swapped; claim symmetric = True if it is meant")
    return passed("with student and teacher swapped " + (message or "nothing changes, as claimed (symmetric)"))


TERM_ROUNDING = 1e-5
"""Share of a term's usual size that rounding may change where the term sees no difference."""


def losses_by_confidence(subject: Subject, student: float, teacher: float) -> dict[str, float]:
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


def usual_size(subject: Subject, name: str) -> float:
    """Of a term, where the networks differ; 0 where it is not there."""
    return abs(subject.usual.values.get(name, 0.0))


def sees_confidence(subject: Subject) -> set[str]:
    """The terms that change with how certain each network is: those on a best class alone do not, nor on features.

    None of a strategy that knows its logits.
    """
    if knows_its_logits(subject):
        return set()
    scale = subject.moment.scale
    usual = losses_by_confidence(subject, scale, scale)
    others = losses_by_confidence(subject, 1.3 * scale, scale), losses_by_confidence(subject, scale, 1.3 * scale)

    def sees(name: str, value: float) -> bool:
        least = TERM_ROUNDING * usual_size(subject, name)
        return all(abs(other.get(name, math.inf) - value) > least for other in others)

    return {name for name, value in usual.items() if sees(name, value)}


_NEVER_ZERO = 1e-3
"""How far samples that are alike are from each other, since a mean distance of 0 says nothing."""


def _reversed_features(subject: Subject) -> str:
    """Where a divergence on features has student and teacher swapped, in words; empty where none has."""
    if not {"stages", "pre_stages", "embedding"} & set(teacher_signals(subject.kind)) or knows_its_logits(subject):
        return ""
    return _within_a_sample(subject) or _between_samples(subject)


def _within_a_sample(subject: Subject) -> str:
    """By softmax over positions or channels: as with logits, one network is sure and the other is not."""

    def losses(student: float, teacher: float) -> dict[str, float]:
        twins = subject.pair().twins()
        return on_features(subject, twins, subject.draw(twins), lambda x: student * x, lambda x: teacher * x).values

    usual, sharper, clearer = losses(1, 1), losses(1.3, 1), losses(1, 1.3)
    missing, more = losses(_CERTAIN, _OPEN), losses(2 * _CERTAIN, _OPEN)
    spread, wider = losses(_OPEN, _CERTAIN), losses(_OPEN, 2 * _CERTAIN)
    for name in sorted(usual.keys() & missing.keys() & more.keys() & spread.keys() & wider.keys()):
        least = TERM_ROUNDING * usual_size(subject, name)
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
        return middle * (1 + _NEVER_ZERO * torch.randn(x.shape, generator=noise)) + 0 * x

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


ARGUMENT_ORDER = Check(
    name="argument-order",
    verifies="`forward` takes the student first; the terms depend on both networks; by no term on the logits does a "
    "student that is certain where the teacher is not have a lower loss than the opposite student, unless "
    "`mode_seeking` is "
    "claimed (not held to that, as the line then says: a term that is 0 where the teacher is unsure, and a strategy "
    "that asks for the embedding and the classifier, which made-up logits do not fit); nor by one on features, be "
    "it over positions and channels or over the similarities of samples; the terms change when student "
    "and teacher are swapped, unless `symmetric` is claimed; a warning where `mode_seeking` is claimed and not so",
    matters="the KL divergence with swapped arguments still trains, to another and usually worse student",
    mend="write `forward(self, student, teacher, batch)`; `F.kl_div(log_student, log_teacher, log_target=True)` has "
    "the student first; claim `mode_seeking` or `symmetric` where that is meant",
    run=_argument_order,
    needs=("terms", "repeatable"),
)
