"""The check of networks with different numbers of stages, and of which stages are compared there."""

from __future__ import annotations

from dataclasses import replace

import torch

from kdzoo.errors import PairError
from kdzoo.signals import student_signals, teacher_signals
from kdzoo.testing.check import Check, Verdict, warned
from kdzoo.testing.made import DEEP_STAGES, EVEN_STAGES, STAGES, Features, Pair, Shape, make_pair
from kdzoo.testing.on_pairs import Stages, on_pairs
from kdzoo.testing.subject import Subject

OTHER_COUNTS: dict[tuple[Shape, ...], tuple[Stages, Stages]] = {
    STAGES: (STAGES[1:], DEEP_STAGES),
    DEEP_STAGES: (DEEP_STAGES[1:], DEEP_STAGES),
    EVEN_STAGES: (EVEN_STAGES[2:], (*EVEN_STAGES, EVEN_STAGES[0])),
}
"""Stages that a strategy serves -> fewer and more of the same kind."""


def _few(subject: Subject) -> Pair:
    return make_pair(*OTHER_COUNTS[subject.stages])


def _many(subject: Subject) -> Pair:
    return make_pair(*OTHER_COUNTS[subject.stages][::-1])


def _unequal_stages(subject: Subject) -> Verdict:
    verdict = on_pairs("with unequal numbers of stages", _few, _many)(subject)
    told = next(filter(None, (_strange(subject, make(subject)) for make in (_few, _many))), "")
    return warned(told) if verdict.status == "ok" and told else verdict


def _strange(subject: Subject, pair: Pair) -> str:
    """Which stages are compared though they do not face each other, in words.

    Where a stage is compared with several, or several with one, that is what the method is.
    """
    if "stages" not in student_signals(subject.kind) & teacher_signals(subject.kind):
        return ""
    try:
        found = _compared(subject, pair)
    except PairError:
        return ""
    own, theirs = ([each[at] for each in found] for at in (0, 1))
    faces = pair.setup(subject.kind).stage_pairs
    strange = sorted(found - set(faces))
    if not strange or len(set(own)) < len(own) or len(set(theirs)) < len(theirs):
        return ""
    return (
        f"with {len(pair.student.stages)} and {len(pair.teacher.stages)} stages, the student's stage {strange[0][0]} "
        f"is compared with the teacher's stage {strange[0][1]}, and stage_pairs is {list(faces)}: it may go by the "
        "numbers from the input"
    )


def _compared(subject: Subject, pair: Pair) -> set[tuple[int, int]]:
    """(student's stage, teacher's stage) where the gradient in the one turns with what the other holds."""
    drawn, other = subject.draw(pair), subject.draw(pair, seed=1)
    usual = subject.call(pair, drawn).gradients()
    found = set()
    for theirs in range(len(pair.teacher.stages)):
        stages = list(drawn.teacher.stages)
        stages[theirs] = other.teacher.stages[theirs]
        changed = replace(drawn, teacher=Features(tuple(stages), drawn.teacher.embedding))
        gradients = subject.call(pair, changed).gradients()
        for own in range(len(pair.student.stages)):
            if not torch.allclose(usual[own], gradients[own], rtol=1e-4, atol=1e-8):
                found.add((own, theirs))
    return found


UNEQUAL_STAGES = Check(
    name="unequal-stages",
    verifies="networks of 2 and 5 stages, or of 4 and 5 where fewer are refused, both ways, give finite terms and "
    "gradients, or a PairError refuses them; a warning where stages are compared one by one, and others than "
    "`setup.stage_pairs` says",
    matters="stages are paired from the deepest; indices of one network used on the other compare the wrong maps",
    mend="walk over `setup.stage_pairs`, which has an index for each network",
    run=_unequal_stages,
    needs=("terms",),
)
