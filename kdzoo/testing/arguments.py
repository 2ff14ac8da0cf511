"""The check of who is the student and who the teacher."""

from __future__ import annotations

import inspect
from dataclasses import replace

from kdzoo.signals import teacher_signals
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.compare import difference
from kdzoo.testing.confidence import losses, sees_confidence
from kdzoo.testing.made import Drawn, Pair
from kdzoo.testing.subject import NO_TERMS, Subject

CERTAIN, OPEN = 200.0, 0.01
"""Size of the logits of a network that is sure of one class, and of one that finds all of them possible."""


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
    return _divergence(subject)


def _divergence(subject: Subject) -> Verdict:
    kind = subject.kind
    told = "" if kind.symmetric else _reversed(subject)
    if told and not kind.mode_seeking:
        return failed(
            f"{told}: student and teacher are swapped in the divergence; if that is meant, claim mode_seeking = True"
        )
    swapped = _swapped(subject)
    if kind.mode_seeking and not told and swapped.status != "fail":
        return warned("mode_seeking is claimed, and no term on the logits is so: drop the claim")
    return swapped


def _ignored(subject: Subject) -> str:
    """Which of the two networks the terms do not depend on, if any."""
    pair, other = subject.pair(), subject.pair(seed=1)
    drawn, fresh = subject.draw(pair), subject.draw(pair, seed=1)
    taught = subject.call(
        Pair(pair.student, pair.teacher, (pair.layers[0], other.layers[1])), replace(drawn, teacher=fresh.teacher)
    )
    learnt = subject.call(
        Pair(pair.student, pair.teacher, (other.layers[0], pair.layers[1])), replace(drawn, student=fresh.student)
    )
    usual = subject.call(pair, drawn).values
    if taught.values == usual:
        return "the terms stay the same whatever the teacher says"
    return "the terms stay the same whatever the student says" if learnt.values == usual else ""


def _reversed(subject: Subject) -> str:
    """Where a student that is certain of one class is the better, the less certain the teacher is; term by term."""
    if "logits" not in teacher_signals(subject.kind) or not (seeing := sees_confidence(subject)):
        return ""
    missing, spread = losses(subject, CERTAIN, OPEN), losses(subject, OPEN, CERTAIN)
    for name in sorted(seeing & missing.keys() & spread.keys()):
        if missing[name] < float("inf") and spread[name] > 3 * abs(missing[name]):
            return (
                f"by {name}, a student that is certain where the teacher is not loses {missing[name]:.3g}, "
                f"the opposite one {spread[name]:.3g}"
            )
    return ""


def _swapped(subject: Subject) -> Verdict:
    """Let student and teacher change places."""
    twins = subject.pair().twins()
    drawn = subject.draw(twins)
    turned = Drawn(drawn.teacher, drawn.student, drawn.batch, drawn.views)
    told = difference(
        lambda seed: subject.call(twins, drawn, seed=seed).values,
        lambda seed: subject.call(twins, turned, seed=seed).values,
        relative=1e-4,
        draws=subject.draws and subject.kind.symmetric,
    )
    if told and subject.kind.symmetric:
        return failed(f"symmetric is claimed, but with student and teacher swapped {told}")
    if not told and not subject.kind.symmetric:
        return warned("the terms stay the same with student and teacher swapped; claim symmetric = True if it is meant")
    return passed("with student and teacher swapped " + (told or "nothing changes, as claimed (symmetric)"))


ARGUMENT_ORDER = Check(
    name="argument-order",
    verifies="`forward` takes the student first; the terms depend on both networks; by no term on the logits does a "
    "student that is certain where the teacher is not lose less than the opposite one, unless `mode_seeking` is "
    "claimed; the terms change when student and teacher are swapped, unless `symmetric` is claimed; a warning where "
    "`mode_seeking` is claimed and not so",
    matters="the KL divergence with swapped arguments still trains, to another and usually worse student",
    mend="write `forward(self, student, teacher, batch)`; `F.kl_div(log_student, log_teacher, log_target=True)` has "
    "the student first; claim `mode_seeking` or `symmetric` where that is meant",
    run=_argument_order,
    needs=("terms", "repeatable"),
)
