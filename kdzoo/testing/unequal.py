"""Checks of networks that are not alike: in widths, in the sizes of their maps, in the number of their stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kdzoo.errors import PairError
from kdzoo.testing.check import Check, Verdict, failed, passed
from kdzoo.testing.made import DEEP_STAGES, EVEN_STAGES, STAGES, Pair, Shape, make_pair
from kdzoo.testing.subject import Subject

Stages = Sequence[Shape]

OTHER_COUNTS: dict[tuple[Shape, ...], tuple[Stages, Stages]] = {
    STAGES: (STAGES[1:], DEEP_STAGES),
    DEEP_STAGES: (DEEP_STAGES[1:], DEEP_STAGES),
    EVEN_STAGES: (EVEN_STAGES[2:], (*EVEN_STAGES, EVEN_STAGES[0])),
}
"""Stages that a strategy serves -> fewer and more of the same kind."""


def on_pairs(where: str, *pairs: Callable[[Subject], Pair]) -> Callable[[Subject], Verdict]:
    """A check that calls the strategy on each of these pairs; one that it refuses does not excuse the others."""

    def run(subject: Subject) -> Verdict:
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
            found.append(call.told)
        if not found:
            raise refusals[0]
        return passed("; ".join([*found, *(f"one pair is refused: {error}" for error in refusals)]))

    return run


def _narrow(stages: Stages) -> Stages:
    return [(channels // 2, height, width) for channels, height, width in stages]


def _wide(stages: Stages) -> Stages:
    return [(2 * channels + 1, height, width) for channels, height, width in stages]


def _small(stages: Stages) -> Stages:
    """Not square: seven eighths of the height and five eighths of the width, rounded up."""
    return [(channels, -(-7 * height // 8), -(-5 * width // 8)) for channels, height, width in stages]


def _large(stages: Stages) -> Stages:
    """Seven quarters, rounded down."""
    return [(channels, 7 * height // 4, 7 * width // 4) for channels, height, width in stages]


UNEQUAL = (
    Check(
        name="unequal-channels",
        verifies="student stages and embeddings of other widths than the teacher's, wider and narrower, give finite "
        "terms and gradients, or the pair is refused by a PairError",
        matters="hardly any real pair has equal widths",
        mend="make adapters from `setup.paired_shapes()` and the embeddings' widths, or raise `PairError` in `build`",
        run=on_pairs(
            "with unequal channels",
            lambda subject: make_pair(_narrow(subject.stages), _wide(subject.stages), widths=(8, 33)),
            lambda subject: make_pair(_wide(subject.stages), _narrow(subject.stages), widths=(33, 8)),
        ),
        needs=("terms",),
    ),
    Check(
        name="unequal-sizes",
        verifies="maps of other sizes than the teacher's, larger and smaller, also not square and in no whole ratio, "
        "give finite terms and gradients, or the pair is refused by a PairError",
        matters="maps of unequal size that are compared anyway are stretched in silence, or stop the training",
        mend="pool the larger map to the smaller one's size (`F.adaptive_avg_pool2d`), in both directions",
        run=on_pairs(
            "with maps of unequal size",
            lambda subject: make_pair(_small(subject.stages), _large(subject.stages)),
            lambda subject: make_pair(_large(subject.stages), _small(subject.stages)),
        ),
        needs=("terms",),
    ),
    Check(
        name="unequal-stages",
        verifies="networks of 2 and 5 stages, or of 4 and 5 where fewer are refused, both ways, give finite terms and "
        "gradients, or a PairError refuses them",
        matters="stages are paired from the deepest; indices of one network used on the other compare the wrong maps",
        mend="walk over `setup.stage_pairs`, which has an index for each network",
        run=on_pairs(
            "with unequal numbers of stages",
            lambda subject: make_pair(*OTHER_COUNTS[subject.stages]),
            lambda subject: make_pair(*OTHER_COUNTS[subject.stages][::-1]),
        ),
        needs=("terms",),
    ),
)
"""In the order in which they run."""
