"""Checks of networks that are not alike: in widths, in the sizes of their maps, in the number of their stages."""

from __future__ import annotations

from kdzoo.testing.check import Check
from kdzoo.testing.made import make_pair
from kdzoo.testing.on_pairs import Stages, on_pairs
from kdzoo.testing.pairing import UNEQUAL_STAGES


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
    UNEQUAL_STAGES,
)
"""In the order in which they run."""
