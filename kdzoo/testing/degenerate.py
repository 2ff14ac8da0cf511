"""The check of features that carry nothing, and of a student that has reached its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.testing.calls import NO_TERMS
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.made import Drawn, Features
from kdzoo.testing.subject import Subject


def _degenerate(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    for where, drawn in _cases(subject.draw(pair)):
        if fault := subject.call(pair, drawn).fault:
            return failed(f"{fault} {where}")
    twins = pair.twins()
    drawn = subject.draw(twins)
    if fault := subject.call(twins, replace(drawn, student=drawn.teacher)).fault:
        return failed(f"{fault} where the student equals the teacher")
    return passed("finite with features of a sample that are all 0, with constant maps, and for equal networks")


def _cases(drawn: Drawn) -> Iterator[tuple[str, Drawn]]:
    for what, change in (("features of a sample are all 0", _dead), ("maps are constant", _constant)):
        student, teacher = change(drawn.student), change(drawn.teacher)
        yield f"where the student's {what}", replace(drawn, student=student)
        yield f"where the teacher's {what}", replace(drawn, teacher=teacher)
        yield f"where both networks' {what}", replace(drawn, student=student, teacher=teacher)


def _dead(features: Features) -> Features:
    """Nothing is seen in the first sample, as behind ReLUs that are all shut."""

    def first_row_off(x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:1]), x[1:]])

    return features.map(first_row_off)


def _constant(features: Features) -> Features:
    """Each channel has one value in the whole map."""
    stages = tuple(stage[..., :1, :1].expand_as(stage).contiguous() for stage in features.stages)
    return Features(stages, features.embedding)


DEGENERATE = Check(
    name="degenerate",
    verifies="a sample whose features are all 0, maps of constant channels, and a student equal to its teacher give "
    "finite terms and gradients",
    matters="behind a ReLU whole channels and samples are 0, and one division by a norm of 0 ends the training",
    mend="use `F.normalize`, or `x.norm(...).clamp(min=eps)`; put an epsilon under a root, whose gradient at 0 is "
    "infinite",
    run=_degenerate,
    needs=("terms",),
)
