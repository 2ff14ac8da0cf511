"""Checks of shapes: batches, classes, stages, memory layouts, targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.compare import difference
from kdzoo.testing.growth import THOUSAND_CLASSES
from kdzoo.testing.made import STAGES, Change, Pair, Shape, make_pair
from kdzoo.testing.subject import NO_TERMS, Call, Subject

FULL, LAST = 16, 5
"""Samples of a full batch and of the last, partial one."""


def _checked(call: Call, where: str) -> Verdict:
    """The terms and the gradients in the student are finite."""
    return failed(f"{call.fault} {where}") if call.fault else passed(call.told)


def _one(subject: Subject) -> Verdict:
    pair = subject.pair()
    try:
        return _checked(subject.call(pair, subject.draw(pair, 1)), "on a batch of one sample")
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return failed(
            "BatchNorm cannot train on one value per channel; kdzoo makes such a batch only of data that are a single "
            "sample"
        )


def _partial(subject: Subject) -> Verdict:
    pair = subject.pair()
    strategy = subject.build(pair.setup(subject.kind))
    for seed, size in enumerate((FULL, LAST, FULL)):
        call = subject.call(pair, subject.draw(pair, size, seed=seed), strategy=strategy)
        if (told := _checked(call, f"on batch {seed + 1}, of {size} samples")).status == "fail":
            return told
    return passed(f"batches of {FULL}, {LAST} and {FULL} samples, one after another")


def _pairs(where: str, *pairs: Callable[[Subject], Pair]) -> Callable[[Subject], Verdict]:
    """A check that calls the strategy on each of these pairs."""

    def run(subject: Subject) -> Verdict:
        found = []
        for make in pairs:
            pair = make(subject)
            verdict = _checked(subject.call(pair, subject.draw(pair)), where)
            if verdict.status == "fail":
                return verdict
            found.append(verdict.text)
        return passed("; ".join(found))

    return run


def _stages(student: Sequence[Shape], teacher: Sequence[Shape]) -> Callable[[Subject], Pair]:
    return lambda subject: make_pair(student, teacher)


def _strided(x: Tensor) -> Tensor:
    """The same values with a gap after each row."""
    return torch.cat([x, x[..., :1]], dim=-1)[..., :-1]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _layout(change: Change, where: str) -> Callable[[Subject], Verdict]:
    """A check that another memory layout of the same values gives the same terms."""

    def run(subject: Subject) -> Verdict:
        if not subject.gives_terms:
            return skipped(NO_TERMS)
        pair = subject.pair()
        drawn = subject.draw(pair)
        told = difference(
            lambda seed: subject.call(pair, drawn, seed=seed).values,
            lambda seed: subject.call(pair, drawn.map(change), seed=seed).values,
            relative=1e-4,
            draws=subject.draws,
        )
        return failed(f"from contiguous and from {where} signals {told}") if told else passed("the same terms")

    return run


def _mixup(subject: Subject) -> Verdict:
    pair = subject.pair()
    drawn = subject.draw(pair)
    hard = torch.nn.functional.one_hot(drawn.batch.labels, pair.student.num_classes).float()
    mixed = replace(drawn, batch=replace(drawn.batch, targets=0.7 * hard + 0.3 * hard.flip(0)))
    return _checked(subject.call(pair, mixed), "with mixed targets")


SHAPES = (
    Check(
        name="batch-of-one",
        verifies="a batch of one sample gives finite terms and gradients",
        matters="small datasets and probes have such batches; a variance over one sample is NaN",
        mend="guard what divides by B - 1; BatchNorm wants more than one value per channel, so use its running "
        "statistics there, or LayerNorm",
        run=_one,
        needs=("terms",),
    ),
    Check(
        name="partial-batch",
        verifies="a full batch, a smaller one and a full one after another give finite terms and gradients",
        matters="the last batch of a split, and a dataset smaller than the batch, are partial",
        mend="take the batch's size from the signals at each call, never from the first one",
        run=_partial,
        needs=("terms",),
    ),
    Check(
        name="two-classes",
        verifies="two classes give finite terms and gradients",
        matters="`topk(5)` and what divides by the number of wrong classes minus one break there",
        mend="clamp k to the number of classes; raise `PairError` in `build` where two classes make no sense",
        run=_pairs("with 2 classes", lambda subject: subject.pair(classes=2)),
        needs=("terms",),
    ),
    THOUSAND_CLASSES,
    Check(
        name="unequal-channels",
        verifies="student stages and embeddings of other widths than the teacher's, wider and narrower, give finite "
        "terms and gradients, or the pair is refused by a PairError",
        matters="hardly any real pair has equal widths",
        mend="make adapters from `setup.paired_shapes()` and the embeddings' widths, or raise `PairError` in `build`",
        run=_pairs(
            "with unequal channels",
            lambda subject: make_pair(
                [(4, 8, 8), (6, 4, 4), (8, 2, 2)], [(9, 8, 8), (15, 4, 4), (33, 2, 2)], widths=(8, 33)
            ),
            lambda subject: make_pair(
                [(9, 8, 8), (15, 4, 4), (33, 2, 2)], [(4, 8, 8), (6, 4, 4), (8, 2, 2)], widths=(33, 8)
            ),
        ),
        needs=("terms",),
    ),
    Check(
        name="unequal-sizes",
        verifies="maps of other sizes than the teacher's, larger and smaller, also not square and in no whole ratio, "
        "give finite terms and gradients, or the pair is refused by a PairError",
        matters="maps of unequal size that are compared anyway are stretched in silence, or stop the training",
        mend="pool the larger map to the smaller one's size (`F.adaptive_avg_pool2d`), in both directions",
        run=_pairs(
            "with maps of unequal size",
            _stages([(8, 7, 5), (12, 4, 3), (16, 2, 2)], [(8, 14, 14), (12, 7, 7), (16, 3, 3)]),
            _stages([(8, 14, 14), (12, 7, 7), (16, 3, 3)], [(8, 7, 5), (12, 4, 3), (16, 2, 2)]),
        ),
        needs=("terms",),
    ),
    Check(
        name="unequal-stages",
        verifies="networks of 2 and 5 stages, both ways, give finite terms and gradients, or a PairError refuses them",
        matters="stages are paired from the deepest; indices of one network used on the other compare the wrong maps",
        mend="walk over `setup.stage_pairs`, which has an index for each network",
        run=_pairs(
            "with 2 and 5 stages",
            _stages(STAGES[1:], ((4, 32, 32), (6, 16, 16), *STAGES)),
            _stages(((4, 32, 32), (6, 16, 16), *STAGES), STAGES[1:]),
        ),
        needs=("terms",),
    ),
    Check(
        name="non-contiguous",
        verifies="signals with gaps in memory give the terms of contiguous ones",
        matters="`view` refuses them, and reading memory as it lies mixes up elements",
        mend="use `flatten` or `reshape` instead of `view`",
        run=_layout(_strided, "non-contiguous"),
        needs=("terms", "repeatable"),
    ),
    Check(
        name="channels-last",
        verifies="maps in channels_last order give the terms of contiguous ones",
        matters="kdzoo's teachers and fast recipes give such maps",
        mend="use `flatten` or `reshape` instead of `view`, and name dimensions instead of strides",
        run=_layout(_channels_last, "channels_last"),
        needs=("terms", "repeatable"),
    ),
    Check(
        name="mixup-targets",
        verifies="targets of B x classes probabilities, as mixup makes them, give finite terms and gradients",
        matters="recipes with mixup are common, and `targets` are no longer class numbers there",
        mend="use `batch.labels` for class numbers; `F.cross_entropy` takes both forms of `batch.targets`",
        run=_mixup,
        needs=("terms",),
    ),
)
"""In the order in which they run."""
