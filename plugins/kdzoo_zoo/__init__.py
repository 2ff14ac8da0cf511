"""The built-in strategies, as a plugin like any other.

Torch is imported inside the hook, so that finding this plugin costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdzoo import hookimpl

if TYPE_CHECKING:
    from kdzoo import Strategy

kdzoo_api = "1.2"


@hookimpl
def kdzoo_strategies() -> Iterable[type[Strategy]]:
    """The built-in strategies."""
    from kdzoo_zoo.attention.at import AttentionTransfer
    from kdzoo_zoo.baseline.ce import CrossEntropy
    from kdzoo_zoo.contrast.sskd import SelfSupervision
    from kdzoo_zoo.feature.ab import ActivationBoundaries
    from kdzoo_zoo.feature.fitnets import FitNets
    from kdzoo_zoo.feature.kdpp import NormDirection
    from kdzoo_zoo.feature.ofd import Overhaul
    from kdzoo_zoo.relation.rkd import RelationalKD
    from kdzoo_zoo.response.deit import DistillationToken
    from kdzoo_zoo.response.soft import SoftTargets

    return (
        CrossEntropy,
        SoftTargets,
        FitNets,
        AttentionTransfer,
        RelationalKD,
        Overhaul,
        ActivationBoundaries,
        NormDirection,
        DistillationToken,
        SelfSupervision,
    )
