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
    from kdzoo_zoo.feature.diffkd import DiffusionKD
    from kdzoo_zoo.feature.fitnets import FitNets
    from kdzoo_zoo.feature.itrd import InformationTheoretic
    from kdzoo_zoo.feature.lift import Lift
    from kdzoo_zoo.feature.ofa import OneForAll
    from kdzoo_zoo.feature.srd import SimpleRecipe
    from kdzoo_zoo.feature.vkd import OrthogonalProjections
    from kdzoo_zoo.feature.wkd_f import WassersteinFeatures
    from kdzoo_zoo.relation.rkd import RelationalKD
    from kdzoo_zoo.response.soft import SoftTargets
    from kdzoo_zoo.scheme.dot import DistillationOrientedTrainer

    return (
        CrossEntropy,
        SoftTargets,
        FitNets,
        AttentionTransfer,
        RelationalKD,
        OneForAll,
        DiffusionKD,
        WassersteinFeatures,
        SimpleRecipe,
        InformationTheoretic,
        OrthogonalProjections,
        Lift,
        DistillationOrientedTrainer,
    )
