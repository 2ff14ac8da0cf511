"""Checks of what a term makes of the samples of a batch: their order, their number, and whether it compares them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from kdzoo.testing.checks.card import card_text
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import both_give_logits, difference, on_logits, same, sizes_of
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import NO_TERMS, Call, Drawn, Features


def _batch_order(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    pair = subject.pair()
    drawn = subject.draw(pair)
    # The same samples were there before, in this order: a memory may know them by their index and not by their row.
    before = replace(subject.draw(pair, seed=1), batch=drawn.batch)
    # So were those whose numbers are places in a batch, for what reads a memory by the place.
    others = subject.draw(pair, seed=2)
    others = replace(others, batch=replace(others.batch, index=torch.arange(8).repeat(others.views)))

    def terms(seed: int, order: Tensor) -> dict[str, float]:
        strategy = subject.build(pair.setup(subject.kind))
        for seen in (others, before):
            subject.call(pair, seen, strategy=strategy, seed=seed)
        return subject.call(pair, drawn.rows(order), strategy=strategy, seed=seed).values

    message = ""
    for seed in range(2):
        other = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
        message = message or difference(
            partial(terms, order=torch.arange(8)), partial(terms, order=other), relative=1e-4, draws=subject.draws
        )
    if subject.kind.order_dependent:
        if message:
            return skipped(f"declared to depend on it (order_dependent): in another order {message}")
        return warned("order_dependent is claimed, and the terms are the same in any order: drop the claim")
    if message:
        return failed(f"on the same samples in another order {message}")
    return passed("the same in any order" + (", on average over what it draws" if subject.draws else ""))


_TIMES = 4

_ROUNDING = 0.02
"""What the mean over the same samples several times over may differ by."""

_BAND = 2.0
"""Times by which a loss on pairs of samples may grow: one more negative of each kind is harder to tell apart."""


def _batch_size(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    first, second = torch.arange(_SAMPLES), torch.arange(_SAMPLES, 2 * _SAMPLES)
    once, other = _mean_terms(subject, first), _mean_terms(subject, second)
    twice, both = _mean_terms(subject, first.repeat(2)), _mean_terms(subject, torch.cat([first, second]))
    often = _mean_terms(subject, first.repeat(_TIMES))
    found, shrinks = [], []
    for name in once.keys() & other.keys() & twice.keys() & both.keys() & often.keys():
        if min(abs(once[name]), abs(often[name])) < 1e-9:
            continue
        ratio = often[name] / once[name]
        message = (
            f"{name} is {once[name]:.4g} on {_SAMPLES} samples and {ratio:.2g} times as much on the same {_TIMES} times"
        )
        # What is a sum over samples, whatever it is divided by, is the same multiple of its halves' sum on all batches.
        share = twice[name] / (2 * once[name])
        alone = abs(both[name] - share * (once[name] + other[name])) <= 1e-3 * abs(both[name])
        if ratio > _BAND or (alone and abs(ratio - 1) > _ROUNDING):
            return failed(message)
        if ratio < 1 / _BAND:
            shrinks.append(message)
        found.append(f"{name} {ratio:.2f} times")
    if shrinks:
        return warned("; ".join(shrinks))
    return passed(f"on the same samples {_TIMES} times: " + ", ".join(sorted(found)) if found else "its terms are 0")


def _mean_terms(subject: Subject, places: torch.Tensor) -> Mapping[str, float]:
    """The terms on these of 16 samples; their means over some seeds, where they are random."""
    pair = subject.pair()
    drawn = subject.draw(pair, 2 * _SAMPLES).rows(places)
    calls = [subject.call(pair, drawn, seed=seed).values for seed in range(24 if subject.draws else 1)]
    names = set(calls[0]).intersection(*calls)
    return {name: sum(terms[name] for terms in calls) / len(calls) for name in names}


_SAMPLES, _KEPT = 8, 4
_LARGER = 5
"""Samples of the larger of two parts."""

_PARALLEL = 0.999
"""Cosine from which on two gradients have one direction; the length may depend on how many samples are counted."""

_SINGLE = ("response", "feature", "attention")
"""Families of strategies that compare each sample with its own teacher."""

_MEANT = re.compile(r"softmax\w*[^.;]{0,60}\bover (?:the |all )?(?:batch|samples)", re.IGNORECASE)


def _across(subject: Subject) -> CheckResult:
    if not subject.gives_terms:
        return skipped(NO_TERMS)
    if subject.kind.per_sample and (fault := _coupled(subject)):
        return failed(f"per_sample is claimed, and {fault}")
    return _compares(subject)


def _compares(subject: Subject) -> CheckResult:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in subject.usual.strategy.modules()):
        return passed("its batch normalisation compares the samples")
    mixing = sorted(_mixing(subject))
    if not mixing:
        return passed("the gradient in a sample has one direction whatever else is in the batch")
    names = ", ".join(mixing)
    meant = _MEANT.search(" ".join(card_text(subject.kind).split()))
    if not meant and both_give_logits(subject) and (wrong := next(_over_the_batch(subject, mixing), "")):
        return failed(wrong)
    if subject.kind.family in _SINGLE:
        return warned(
            f"the family is {subject.kind.family!r}, but by {names} the gradient in a sample turns with the other "
            "samples of the batch: a softmax, a norm or a deviation may run over the wrong dimension; if samples are "
            "compared with each other, the family is 'relation' or a word of your own"
        )
    return passed(f"{names}: samples are compared with each other")


def _coupled(subject: Subject) -> str:
    """Why several processes cannot compute the terms each on its own rows, in words; empty where they can."""
    pair = subject.pair()
    drawn = subject.draw(pair, _SAMPLES)
    strategy = subject.build(pair.setup(subject.kind))
    before = {name: value.clone() for name, value in strategy.named_buffers()}
    _freeze_norms(strategy)
    subject.call(pair, drawn, strategy=strategy)
    if written := [name for name, value in strategy.named_buffers() if not same(value, before[name])]:
        return f"forward writes to self.{written[0]}, which each of several processes would write for its own samples"

    def terms(seed: int, places: Tensor) -> Mapping[str, float]:
        fresh = subject.build(pair.setup(subject.kind))
        _freeze_norms(fresh)
        return subject.call(pair, drawn.rows(places), seed=seed, strategy=fresh).values

    def in_parts(seed: int) -> Mapping[str, float]:
        # Unequal parts, so that a mean of their means is not the mean of all.
        first, second = (terms(seed, places) for places in (torch.arange(_LARGER), torch.arange(_LARGER, _SAMPLES)))
        share = _LARGER / _SAMPLES
        return {name: share * first[name] + (1 - share) * second[name] for name in first.keys() & second.keys()}

    message = difference(partial(terms, places=torch.arange(_SAMPLES)), in_parts, relative=1e-4, draws=subject.draws)
    return message and f"on a whole batch, and as the mean over its parts, {message}"


def _freeze_norms(strategy: nn.Module) -> None:
    """Batch normalisation sees the rows of all processes, so it does not count here."""
    for module in strategy.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _mixing(subject: Subject) -> Iterator[str]:
    """The terms whose gradient in a sample turns with the other samples."""
    pair = subject.pair()
    drawn = subject.draw(pair, _SAMPLES)
    others = _beside(drawn, subject.draw(pair, _SAMPLES, seed=3))
    one, two = (_directions(subject.call(pair, each), subject.rows_of_sample) for each in (drawn, others))
    for name in one.keys() & two.keys():
        cosines = torch.cosine_similarity(one[name], two[name], dim=1)
        # A sample that is left out of one of the two has no gradient there.
        there = (one[name].norm(dim=1) > 1e-9) & (two[name].norm(dim=1) > 1e-9)
        if bool((cosines[there] < _PARALLEL).any()):
            yield name


def _beside(one: Drawn, other: Drawn) -> Drawn:
    """The first samples of a batch beside the last ones of another."""
    rows = _SAMPLES * one.views
    kept = torch.arange(rows) % _SAMPLES < _KEPT

    def mixed(x: Tensor, y: Tensor) -> Tensor:
        return torch.where(kept.view(-1, *(1,) * (x.ndim - 1)), x, y)

    def features(x: Features, y: Features) -> Features:
        free = None if x.free is None or y.free is None else mixed(x.free, y.free)
        return Features(tuple(map(mixed, x.stages, y.stages)), free)

    a, b = one.batch, other.batch
    # An index that both have would be one sample twice.
    free = [place for place in range(256) if place not in set(a.index.tolist())]
    index = torch.tensor(free[:_SAMPLES]).repeat(one.views)
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
    seen = [source for source in call.student.sources if source.shape[:1] == (_SAMPLES * views,)]
    found = {}
    for name, term in call.terms.items():
        if term.requires_grad:
            gradients = torch.autograd.grad(term, seen, retain_graph=True, allow_unused=True, materialize_grads=True)
            rows = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1)
            found[name] = rows.view(views, _SAMPLES, -1).transpose(0, 1).flatten(1)[:_KEPT].double()
    return found


def _over_the_batch(subject: Subject, names: list[str]) -> Iterator[str]:
    """The terms on the logits that are a softmax over the samples, in words.

    Such a term does not see a number that is added to a class in all samples, as a softmax over the classes does not
    see one that is added to all classes of a sample; and its gradient neither grows nor falls with large logits, as
    that of a correlation or of a covariance does.
    """
    pair = subject.pair()
    drawn = subject.draw(pair, _SAMPLES)
    draw = torch.Generator().manual_seed(17)
    rows, classes = _SAMPLES * subject.rows_of_sample, pair.student.num_classes
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


BATCH_ORDER = Check(
    name="batch-order",
    verifies="the terms are the same for known samples in another order, unless "
    "`order_dependent` is declared; a warning where it is declared and not so",
    matters="batches are shuffled: a term that depends on the order compares the wrong samples, or is noise",
    mend="compare row i only with row i or with all rows; find state by `batch.index`, not by the row; or declare "
    "`order_dependent = True`",
    run=_batch_order,
    needs=("terms", "repeatable"),
)


BATCH_SIZE = Check(
    name="batch-size",
    verifies="no term changes with the number of samples: on the same samples four times over, a mean over the samples "
    "stays what it is, and a loss on pairs of samples at most doubles; a warning where such a loss falls below half",
    matters="a sum over the batch, or a mean that is divided by the batch once more, ties the term's weight to the "
    "batch size: the same beta means something else on another machine, and in a partial batch",
    mend='take the mean over the batch, once: `.mean()`, or `reduction="batchmean"` for the KL divergence',
    run=_batch_size,
    needs=("terms",),
)


ACROSS = Check(
    name="across-samples",
    verifies="where a strategy is of the family response, feature or attention, the direction of the gradient in a "
    "sample does not depend on the other samples of the batch, or a warning says so; no softmax of the logits runs "
    "over the samples, unless the docstring says `softmax over the samples`; where `per_sample` is claimed, "
    "every term is the mean over the samples, be they together or in parts, and `forward` writes to no buffer",
    matters="a softmax or a norm over the batch instead of the classes still trains, but for a different "
    "objective; several processes that train one cell compute a `per_sample` loss each on its own rows",
    mend="write `dim=1` (or `dim=-1`) for the classes, channels or positions of a sample; if samples are compared "
    "with each other on purpose, set the family to `relation`, `contrastive` or another word, and drop "
    "`per_sample`",
    run=_across,
    needs=("terms", "repeatable"),
)
