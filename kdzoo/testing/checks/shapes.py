"""Checks of shapes: batches, classes, targets, and networks that are not alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from kdzoo.declarations import student_signals, teacher_signals
from kdzoo.errors import PairError
from kdzoo.testing.kit import Check, CheckResult, failed, passed, warned
from kdzoo.testing.kit.networks import DEEP_STAGES, EVEN_STAGES, STAGES, NetworkPair, Shape
from kdzoo.testing.kit.subject import Subject
from kdzoo.testing.kit.synthetic import MAPS, Call, Features

_FULL, _LAST = 16, 5
"""Samples of a full batch and of the last, partial one."""


def _checked(call: Call, where: str) -> CheckResult:
    """The terms and the gradients in the student are finite."""
    return failed(f"{call.fault} {where}") if call.fault else passed(call.summary)


def _batch_of_one(subject: Subject) -> CheckResult:
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


def _partial(subject: Subject) -> CheckResult:
    pair = subject.pair()
    strategy = subject.build(pair.setup(subject.kind))
    for seed, size in enumerate((_FULL, _LAST, _FULL)):
        call = subject.call(pair, subject.draw(pair, size, seed=seed), strategy=strategy)
        if (result := _checked(call, f"on batch {seed + 1}, of {size} samples")).status == "fail":
            return result
    return passed(f"batches of {_FULL}, {_LAST} and {_FULL} samples, one after another")


def _mixup(subject: Subject) -> CheckResult:
    pair = subject.pair()
    drawn = subject.draw(pair)
    hard = torch.nn.functional.one_hot(drawn.batch.labels, pair.student.num_classes).float()
    mixed = replace(drawn, batch=replace(drawn.batch, targets=0.7 * hard + 0.3 * hard.flip(0)))
    return _checked(subject.call(pair, mixed), "with mixed targets")


def _no_bias(subject: Subject) -> CheckResult:
    if "classifier" not in student_signals(subject.kind) | teacher_signals(subject.kind):
        return passed("it does not ask for the last layers")
    pair = subject.networks(subject.stages, subject.stages, bias=False)
    return _checked(subject.call(pair, subject.draw(pair)), "where the last layers have no bias")


_Stages = Sequence[Shape]


def _on_pairs(where: str, *pairs: Callable[[Subject], NetworkPair]) -> Callable[[Subject], CheckResult]:
    """A check that calls the strategy on each of these pairs; one that it refuses does not excuse the others."""

    def run(subject: Subject) -> CheckResult:
        found, refusals = list[str](), list[PairError]()
        for make in pairs:
            try:
                pair = make(subject)
                call = subject.call(pair, subject.draw(pair))
            except PairError as error:
                refusals.append(error)
                continue
            if call.fault:
                return failed(f"{call.fault} {where}")
            found.append(call.summary)
        if not found:
            raise refusals[0]
        return passed("; ".join([*found, *(f"one pair is refused: {error}" for error in refusals)]))

    return run


def _narrow(stages: _Stages) -> _Stages:
    return [(channels // 2, height, width) for channels, height, width in stages]


def _wide(stages: _Stages) -> _Stages:
    return [(2 * channels + 1, height, width) for channels, height, width in stages]


def _small(stages: _Stages) -> _Stages:
    """Not square: seven eighths of the height and five eighths of the width, rounded up."""
    return [(channels, -(-7 * height // 8), -(-5 * width // 8)) for channels, height, width in stages]


def _large(stages: _Stages) -> _Stages:
    """Seven quarters, rounded down."""
    return [(channels, 7 * height // 4, 7 * width // 4) for channels, height, width in stages]


_OTHER_COUNTS: dict[tuple[Shape, ...], tuple[_Stages, _Stages]] = {
    STAGES: (STAGES[1:], DEEP_STAGES),
    DEEP_STAGES: (DEEP_STAGES[1:], DEEP_STAGES),
    EVEN_STAGES: (EVEN_STAGES[2:], (*EVEN_STAGES, EVEN_STAGES[0])),
}
"""Stages that a strategy serves -> fewer and more of the same kind."""


def _few(subject: Subject) -> NetworkPair:
    return subject.networks(*_OTHER_COUNTS[subject.stages])


def _many(subject: Subject) -> NetworkPair:
    return subject.networks(*_OTHER_COUNTS[subject.stages][::-1])


def _unequal_stages(subject: Subject) -> CheckResult:
    verdict = _on_pairs("with unequal numbers of stages", _few, _many)(subject)
    message = next(filter(None, (_strange(subject, make(subject)) for make in (_few, _many))), "")
    return warned(message) if verdict.status == "ok" and message else verdict


def _strange(subject: Subject, pair: NetworkPair) -> str:
    """Which stages are compared though they do not face each other, in words.

    Where a stage is compared with several, or several with one, that is what the method is.
    """
    if not MAPS & student_signals(subject.kind) or not MAPS & teacher_signals(subject.kind):
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


def _compared(subject: Subject, pair: NetworkPair) -> set[tuple[int, int]]:
    """(student's stage, teacher's stage) where the gradient in the one turns with what the other holds."""
    drawn, other = subject.draw(pair), subject.draw(pair, seed=1)
    usual = subject.call(pair, drawn).gradients()
    found = set()
    for theirs in range(len(pair.teacher.stages)):
        stages = list(drawn.teacher.stages)
        stages[theirs] = other.teacher.stages[theirs]
        changed = replace(drawn, teacher=Features(tuple(stages), drawn.teacher.free))
        gradients = subject.call(pair, changed).gradients()
        for own in range(len(pair.student.stages)):
            if not torch.allclose(usual[own], gradients[own], rtol=1e-4, atol=1e-8):
                found.add((own, theirs))
    return found


BATCH_OF_ONE = Check(
    name="batch-of-one",
    verifies="a batch of one sample gives finite terms and gradients",
    matters="small datasets and probes have such batches; a variance over one sample is NaN",
    mend="guard divisions by B - 1; BatchNorm needs more than one value per channel, so use its running "
    "statistics there, or LayerNorm",
    run=_batch_of_one,
    needs=("terms",),
)


PARTIAL_BATCH = Check(
    name="partial-batch",
    verifies="a full batch, a smaller one and a full one after another give finite terms and gradients",
    matters="the last batch of a split, and a dataset smaller than the batch, are partial",
    mend="read the batch size from the signals at each call, never only at the first call",
    run=_partial,
    needs=("terms",),
)


TWO_CLASSES = Check(
    name="two-classes",
    verifies="two classes give finite terms and gradients",
    matters="`topk(5)` and divisions by the number of wrong classes minus one fail there",
    mend="clamp k to the number of classes; raise `PairError` in `build` where two classes make no sense",
    run=_on_pairs("with 2 classes", lambda subject: subject.pair(classes=2)),
    needs=("terms",),
)


MIXUP_TARGETS = Check(
    name="mixup-targets",
    verifies="targets of B x classes probabilities, as mixup makes them, give finite terms and gradients",
    matters="recipes with mixup are common, and `targets` are no longer class numbers there",
    mend="use `batch.labels` for class numbers; `F.cross_entropy` takes both forms of `batch.targets`",
    run=_mixup,
    needs=("terms",),
)


NO_BIAS = Check(
    name="no-bias",
    verifies="last layers without a bias give finite terms and gradients, where the classifier is asked for, or "
    "the pair is refused by a PairError",
    matters="`classifier.bias` is None in some networks",
    mend="ask `if classifier.bias is not None`, or pass it on: `F.linear(x, *classifier)` takes None",
    run=_no_bias,
    needs=("terms",),
)


UNEQUAL_CHANNELS = Check(
    name="unequal-channels",
    verifies="student stages and embeddings of other widths than the teacher's, wider and narrower, give finite "
    "terms and gradients, or the pair is refused by a PairError",
    matters="few real pairs have equal widths",
    mend="make adapters from `setup.paired_shapes()` and the embeddings' widths, or raise `PairError` in `build`",
    run=_on_pairs(
        "with unequal channels",
        lambda subject: subject.networks(_narrow(subject.stages), _wide(subject.stages), widths=(8, 33)),
        lambda subject: subject.networks(_wide(subject.stages), _narrow(subject.stages), widths=(33, 8)),
    ),
    needs=("terms",),
)


UNEQUAL_SIZES = Check(
    name="unequal-sizes",
    verifies="maps of other sizes than the teacher's, larger and smaller, also not square and in no whole ratio, "
    "give finite terms and gradients, or the pair is refused by a PairError",
    matters="maps of unequal size that are compared anyway are stretched silently, or stop the training",
    mend="pool the larger map to the smaller one's size (`F.adaptive_avg_pool2d`), in both directions",
    run=_on_pairs(
        "with maps of unequal size",
        lambda subject: subject.networks(_small(subject.stages), _large(subject.stages)),
        lambda subject: subject.networks(_large(subject.stages), _small(subject.stages)),
    ),
    needs=("terms",),
)


UNEQUAL_STAGES = Check(
    name="unequal-stages",
    verifies="networks of 2 and 5 stages, or of 4 and 5 where fewer are refused, both ways, give finite terms and "
    "gradients, or a PairError refuses them; a warning where stages are compared one by one, and others than "
    "`setup.stage_pairs` says",
    matters="stages are paired from the deepest; indices of one network used on the other compare the wrong maps",
    mend="iterate over `setup.stage_pairs`, which has an index for each network",
    run=_unequal_stages,
    needs=("terms",),
)
