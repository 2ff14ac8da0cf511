"""The check of who is the student and who the teacher."""

from __future__ import annotations

import inspect
from dataclasses import replace

from kdzoo.signals import teacher_signals
from kdzoo.testing.calls import NO_TERMS
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.compare import difference
from kdzoo.testing.confidence import knows_its_logits, losses, sees_confidence, usual_size
from kdzoo.testing.features import reversed_features
from kdzoo.testing.made import Drawn, Pair
from kdzoo.testing.subject import Subject

CERTAIN, OPEN = 200.0, 0.01
"""Size of the logits of a network that is sure of one class, and of one that finds all of them possible."""

LEAST = 1e-3
"""Share of its usual size below which a term says nothing: it is rounding, or waits for a surer teacher."""


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
    told, unseen = ("", "") if kind.symmetric else _reversed(subject)
    told = told or ("" if kind.symmetric else reversed_features(subject))
    if told and not kind.mode_seeking:
        return failed(
            f"{told}: student and teacher are swapped in the divergence; if that is meant, claim mode_seeking = True"
        )
    swapped = _swapped(subject)
    if unseen and swapped.status == "ok":
        return passed(f"{swapped.text}; {unseen}")
    if kind.mode_seeking and not (told or unseen) and swapped.status != "fail":
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
    missing, spread = (losses(subject, *sizes) if seeing else {} for sizes in ((CERTAIN, OPEN), (OPEN, CERTAIN)))
    silent = []
    for name in sorted(seeing & missing.keys() & spread.keys()):
        if abs(missing[name]) <= LEAST * usual_size(subject, name):
            silent.append(name)
        elif missing[name] < float("inf") and spread[name] > 3 * abs(missing[name]):
            return (
                f"by {name}, a student that is certain where the teacher is not loses {missing[name]:.3g}, "
                f"the opposite one {spread[name]:.3g}"
            ), ""
    told = f"{', '.join(silent)} says nothing of an unsure teacher, so which of them is in front there is not looked at"
    return "", told if silent else ""


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
