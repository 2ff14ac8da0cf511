"""What a strategy is built from, for the plan and for the run alike."""

from __future__ import annotations

from kdzoo.cell import DataRef
from kdzoo.models.taps import pair_stages
from kdzoo.outputs import Classifier, Signature
from kdzoo.strategy import Setup


def make_setup(student: Signature, teacher: Signature, data: DataRef, classifier: Classifier | None) -> Setup:
    """The setup of a strategy on a pair and a dataset; see :class:`kdzoo.Setup`."""
    return Setup(
        student=student,
        teacher=teacher,
        stage_pairs=pair_stages(student, teacher),
        num_classes=data.num_classes,
        num_samples=data.fit,
        classifier=classifier,
    )
