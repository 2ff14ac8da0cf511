"""The check of which samples a term compares: each with its own teacher, or those of a batch with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.card import told_of
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.given import both_give_logits, on_logits, sizes_of
from kdzoo.testing.made import Drawn, Features
from kdzoo.testing.subject import Subject

SAMPLES, KEPT = 8, 4

PARALLEL = 0.999
"""Cosine from which on two gradients have one direction; the length may depend on how many samples are counted."""

SINGLE = ("response", "feature", "attention")
"""Families of strategies that compare each sample with its own teacher."""

_MEANT = re.compile(r"softmax\w*[^.;]{0,60}\bover (?:the |all )?(?:batch|samples)", re.IGNORECASE)


def _across(subject: Subject) -> Verdict:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in subject.usual.strategy.modules()):
        return passed("its batch normalisation compares the samples")
    mixing = sorted(_mixing(subject))
    if not mixing:
        return passed("the gradient in a sample has one direction whatever else is in the batch")
    names = ", ".join(mixing)
    meant = _MEANT.search(" ".join(told_of(subject.kind).split()))
    if not meant and both_give_logits(subject) and (wrong := next(_over_the_batch(subject, mixing), "")):
        return failed(wrong)
    if subject.kind.family in SINGLE:
        return warned(
            f"the family is {subject.kind.family!r}, but by {names} the gradient in a sample turns with the other "
            "samples of the batch: a softmax, a norm or a deviation may run over the wrong dimension; if samples are "
            "compared with each other, the family is 'relation' or a word of your own"
        )
    return passed(f"{names}: samples are compared with each other")


def _mixing(subject: Subject) -> Iterator[str]:
    """The terms whose gradient in a sample turns with the other samples."""
    pair = subject.pair()
    drawn = subject.draw(pair, SAMPLES)
    others = _beside(drawn, subject.draw(pair, SAMPLES, seed=3))
    one, two = (_directions(subject.call(pair, each), subject.kind.views) for each in (drawn, others))
    for name in one.keys() & two.keys():
        cosines = torch.cosine_similarity(one[name], two[name], dim=1)
        # A sample that is left out of one of the two has no gradient there.
        there = (one[name].norm(dim=1) > 1e-9) & (two[name].norm(dim=1) > 1e-9)
        if bool((cosines[there] < PARALLEL).any()):
            yield name


def _beside(one: Drawn, other: Drawn) -> Drawn:
    """The first samples of a batch beside the last ones of another."""
    rows = SAMPLES * one.views
    kept = torch.arange(rows) % SAMPLES < KEPT

    def mixed(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(kept.view(-1, *(1,) * (x.ndim - 1)), x, y)

    def features(x: Features, y: Features) -> Features:
        return Features(tuple(map(mixed, x.stages, y.stages)), mixed(x.embedding, y.embedding))

    a, b = one.batch, other.batch
    # An index that both have would be one sample twice.
    free = [place for place in range(256) if place not in set(a.index.tolist())]
    index = torch.tensor(free[:SAMPLES]).repeat(one.views)
    batch = replace(
        a,
        inputs=mixed(a.inputs, b.inputs),
        labels=mixed(a.labels, b.labels),
        targets=mixed(a.targets, b.targets),
        index=mixed(a.index, index),
    )
    return Drawn(features(one.student, other.student), features(one.teacher, other.teacher), batch, one.views)


def _directions(call: Call, views: int) -> dict[str, Tensor]:
    """Of each term, the gradients in what the student sees in the kept samples: samples x numbers."""
    seen = [source for source in call.student.sources if source.shape[:1] == (SAMPLES * views,)]
    found = {}
    for name, term in call.terms.items():
        if term.requires_grad:
            gradients = torch.autograd.grad(term, seen, retain_graph=True, allow_unused=True, materialize_grads=True)
            rows = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
            found[name] = rows.view(views, SAMPLES, -1).transpose(0, 1).flatten(1)[:KEPT].double()
    return found


def _over_the_batch(subject: Subject, names: list[str]) -> Iterator[str]:
    """The terms on the logits that are a softmax over the samples, in words.

    Such a term does not see a number that is added to a class in all samples, as a softmax over the classes does not
    see one that is added to all classes of a sample; and its gradient neither grows nor falls with large logits, as
    that of a correlation or of a covariance does.
    """
    pair = subject.pair()
    drawn = subject.draw(pair, SAMPLES)
    draw = torch.Generator().manual_seed(17)
    rows, classes = SAMPLES * subject.kind.views, pair.student.num_classes
    own, theirs = (3 * torch.randn(rows, classes, generator=draw) for _ in range(2))
    by_class, by_sample = 3 * torch.randn(1, classes, generator=draw), 3 * torch.randn(rows, 1, generator=draw)

    def terms(student: Tensor, teacher: Tensor) -> dict[str, float]:
        return on_logits(subject, pair, drawn, student, teacher)[0].values

    usual = terms(own, theirs)
    unmoved = terms(own + by_class, theirs), terms(own, theirs + by_class)
    moved = terms(own + by_sample, theirs), terms(own, theirs + by_sample)
    lengths = [sizes_of(*on_logits(subject, pair, drawn, size * own, size * theirs)) for size in (50.0, 100.0)]
    for name in names:
        value = usual.get(name, 0.0)
        still = all(abs(each.get(name, 0.0) - value) <= 1e-4 * abs(value) for each in unmoved)
        moving = all(abs(each.get(name, 0.0) - value) > 1e-2 * abs(value) for each in moved)
        before, after = (each.get(name, 0.0) for each in lengths)
        if value and still and moving and 0.8 * before < after < 1.25 * before:
            yield (
                f"{name} stays {value:.4g} where a number is added to a class in all samples, and becomes "
                f"{moved[0][name]:.4g} where one is added to all classes of a sample: its softmax runs over the "
                "samples of the batch instead of the classes (dim=0 for dim=1); if that is meant, say `softmax over "
                "the samples` in the docstring"
            )


ACROSS = Check(
    name="across-samples",
    verifies="where a strategy is of the family response, feature or attention, the direction of the gradient in a "
    "sample does not depend on the other samples of the batch, or a warning says so; no softmax of the logits runs "
    "over the samples, unless the docstring says `softmax over the samples`",
    matters="a softmax or a norm over the batch instead of the classes still trains, to a student that was asked for "
    "something else",
    mend="write `dim=1` (or `dim=-1`) for the classes, channels or positions of a sample; where samples shall be "
    "compared with each other, set the family to `relation`, `contrastive` or a word of your own",
    run=_across,
    needs=("terms", "repeatable"),
)
