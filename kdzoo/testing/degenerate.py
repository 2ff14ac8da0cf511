"""The check of features that carry nothing, and of a student that has reached its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.testing.calls import NO_TERMS
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.given import both_give_logits, fault_of, on_logits
from kdzoo.testing.made import Drawn, Features, Pair
from kdzoo.testing.subject import Subject


def _degenerate(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    for where, drawn in _cases(subject.draw(pair)):
        if fault := subject.call(pair, drawn).fault:
            return failed(f"{fault} {where}")
    drawn = subject.draw(pair)
    for who, logits in _flat(pair, len(drawn.batch.labels)):
        if both_give_logits(subject) and (fault := fault_of(*on_logits(subject, pair, drawn, *logits))):
            return failed(f"{fault} where {who} logits are all equal, as those of a network that cannot tell")
    twins = pair.twins()
    drawn = subject.draw(twins)
    if fault := subject.call(twins, replace(drawn, student=drawn.teacher)).fault:
        return failed(f"{fault} where the student equals the teacher")
    return passed("finite with features of 0, alike samples, constant maps, equal logits and equal networks")


def _flat(pair: Pair, rows: int) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Logits of both networks, of which one network's, or both, give every class the same in the first sample."""
    draw = torch.Generator().manual_seed(9)
    usual = [torch.randn(rows, pair.student.num_classes, generator=draw) for _ in range(2)]
    flat = [torch.cat([torch.full_like(each[:1], 0.25), each[1:]]) for each in usual]
    yield "a student's", (flat[0], usual[1])
    yield "a teacher's", (usual[0], flat[1])
    yield "both networks'", (flat[0], flat[1])


def _cases(drawn: Drawn) -> Iterator[tuple[str, Drawn]]:
    for what, change in (
        ("features of a sample are all 0", _dead),
        ("maps are constant", _constant),
        ("features of all samples are alike", _alike),
    ):
        student, teacher = change(drawn.student), change(drawn.teacher)
        yield f"where the student's {what}", replace(drawn, student=student)
        yield f"where the teacher's {what}", replace(drawn, teacher=teacher)
        yield f"where both networks' {what}", replace(drawn, student=student, teacher=teacher)


def _dead(features: Features) -> Features:
    """Nothing is seen in the first sample, as behind ReLUs that are all shut."""

    def first_row_off(x: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:1]), x[1:]])

    return features.map(first_row_off)


def _alike(features: Features) -> Features:
    """Every sample of the batch is the same to the network."""
    return features.map(lambda x: x[:1].expand_as(x).contiguous())


def _constant(features: Features) -> Features:
    """Each channel has one value in the whole map."""
    stages = tuple(stage[..., :1, :1].expand_as(stage).contiguous() for stage in features.stages)
    return Features(stages, features.embedding)


DEGENERATE = Check(
    name="degenerate",
    verifies="a sample whose features are all 0, maps of constant channels, a batch of samples that are alike, logits "
    "that are the same for all classes, and a student equal to its teacher give finite terms and gradients",
    matters="behind a ReLU whole channels and samples are 0, and one division by a norm of 0 ends the training",
    mend="use `F.normalize`, or `x.norm(...).clamp(min=eps)`; put an epsilon under a root, whose gradient at 0 is "
    "infinite, and so into a deviation: `(x.var(dim) + eps).sqrt()`",
    run=_degenerate,
    needs=("terms",),
)
