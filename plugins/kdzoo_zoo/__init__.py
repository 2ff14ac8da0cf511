"""The built-in strategies, as a plugin like any other.

Torch is imported inside the hook, so that finding this plugin costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdzoo import hookimpl

if TYPE_CHECKING:
    from kdzoo import Strategy

kdzoo_api = "1.3"


@hookimpl
def kdzoo_strategies() -> Iterable[type[Strategy]]:
    """The built-in strategies."""
    from kdzoo_zoo.attention.at import AttentionTransfer
    from kdzoo_zoo.baseline.ce import CrossEntropy
    from kdzoo_zoo.feature.fitnets import FitNets
    from kdzoo_zoo.relation.rkd import RelationalKD
    from kdzoo_zoo.response.soft import SoftTargets
    from kdzoo_zoo.scheme.ban import BornAgain
    from kdzoo_zoo.scheme.dml import MutualLearning
    from kdzoo_zoo.scheme.takd import TeacherAssistants

    schemes = (BornAgain, TeacherAssistants, MutualLearning)
    return CrossEntropy, SoftTargets, FitNets, AttentionTransfer, RelationalKD, *schemes
