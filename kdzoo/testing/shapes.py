"""Checks of shapes: batches, classes, stages, memory layouts, targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from kdzoo.signals import student_signals, teacher_signals
from kdzoo.testing.calls import NO_TERMS, Call
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped
from kdzoo.testing.compare import difference
from kdzoo.testing.growth import THOUSAND_CLASSES
from kdzoo.testing.made import Change, make_pair
from kdzoo.testing.on_pairs import on_pairs
from kdzoo.testing.subject import Subject
from kdzoo.testing.unequal import UNEQUAL

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


def _no_bias(subject: Subject) -> Verdict:
    if "classifier" not in student_signals(subject.kind) | teacher_signals(subject.kind):
        return passed("it does not ask for the last layers")
    pair = make_pair(subject.stages, subject.stages, bias=False)
    return _checked(subject.call(pair, subject.draw(pair)), "where the last layers have no bias")


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
        run=on_pairs("with 2 classes", lambda subject: subject.pair(classes=2)),
        needs=("terms",),
    ),
    THOUSAND_CLASSES,
    *UNEQUAL,
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
    Check(
        name="no-bias",
        verifies="last layers without a bias give finite terms and gradients, where the classifier is asked for, or "
        "the pair is refused by a PairError",
        matters="`classifier.bias` is None in some networks, and what reads it stops there",
        mend="ask `if classifier.bias is not None`, or pass it on: `F.linear(x, *classifier)` takes None",
        run=_no_bias,
        needs=("terms",),
    ),
)
"""In the order in which they run."""
