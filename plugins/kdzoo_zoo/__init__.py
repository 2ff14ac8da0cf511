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
    from kdzoo_zoo.contrast.crd import ContrastiveRepresentation
    from kdzoo_zoo.feature.afd import AttentiveFeatures
    from kdzoo_zoo.feature.catkd import ClassAttentionTransfer
    from kdzoo_zoo.feature.diffkd import DiffusionKD
    from kdzoo_zoo.feature.fitnets import FitNets
    from kdzoo_zoo.feature.fsp import FlowOfSolution
    from kdzoo_zoo.feature.ft import FactorTransfer
    from kdzoo_zoo.feature.ickd import InterChannelKD
    from kdzoo_zoo.feature.itrd import InformationTheoretic
    from kdzoo_zoo.feature.lift import Lift
    from kdzoo_zoo.feature.mgd import MaskedGeneration
    from kdzoo_zoo.feature.norm import ManyToOne
    from kdzoo_zoo.feature.nst import NeuronSelectivity
    from kdzoo_zoo.feature.ofa import OneForAll
    from kdzoo_zoo.feature.reviewkd import ReviewKD
    from kdzoo_zoo.feature.simkd import ReusedClassifier
    from kdzoo_zoo.feature.srd import SimpleRecipe
    from kdzoo_zoo.feature.srrl import SoftmaxRegression
    from kdzoo_zoo.feature.vid import VariationalInformation
    from kdzoo_zoo.feature.vkd import OrthogonalProjections
    from kdzoo_zoo.feature.wkd_f import WassersteinFeatures
    from kdzoo_zoo.relation.cc import CorrelationCongruence
    from kdzoo_zoo.relation.irg import InstanceRelationshipGraph
    from kdzoo_zoo.relation.pkt import ProbabilisticTransfer
    from kdzoo_zoo.relation.rkd import RelationalKD
    from kdzoo_zoo.relation.sp import SimilarityPreserving
    from kdzoo_zoo.response.abkd import AlphaBetaKD
    from kdzoo_zoo.response.ctkd import CurriculumTemperature
    from kdzoo_zoo.response.dist import Dist
    from kdzoo_zoo.response.dkd import DecoupledKD
    from kdzoo_zoo.response.eakd import EntropyAdaptiveKD
    from kdzoo_zoo.response.gdkd import GeneralizedDecoupledKD
    from kdzoo_zoo.response.hard import HardLabels
    from kdzoo_zoo.response.logit import LogitMatching
    from kdzoo_zoo.response.ls import StandardizedLogits
    from kdzoo_zoo.response.mlkd import MultiLevel
    from kdzoo_zoo.response.nkd import NormalizedKD
    from kdzoo_zoo.response.normkd import NormalizedTemperature
    from kdzoo_zoo.response.rld import RefinedLogits
    from kdzoo_zoo.response.sdd import ScaleDecoupled
    from kdzoo_zoo.response.smooth import LabelSmoothing
    from kdzoo_zoo.response.soft import SoftTargets
    from kdzoo_zoo.response.sort import SortedLogits
    from kdzoo_zoo.response.tfkd import TeacherFreeKD
    from kdzoo_zoo.response.ttm import TransformedTeacher
    from kdzoo_zoo.response.uskd import UniversalSelfKD
    from kdzoo_zoo.response.wkd_l import WassersteinLogits
    from kdzoo_zoo.response.wsld import WeightedSoftLabels
    from kdzoo_zoo.response.wttm import WeightedTransformedTeacher
    from kdzoo_zoo.scheme.dot import DistillationOrientedTrainer

    return (
        CrossEntropy,
        SoftTargets,
        FitNets,
        AttentionTransfer,
        RelationalKD,
        ReviewKD,
        InterChannelKD,
        AttentiveFeatures,
        MaskedGeneration,
        ReusedClassifier,
        SoftmaxRegression,
        ClassAttentionTransfer,
        ManyToOne,
        LogitMatching,
        HardLabels,
        DecoupledKD,
        CurriculumTemperature,
        WeightedSoftLabels,
        NormalizedKD,
        TransformedTeacher,
        WeightedTransformedTeacher,
        NormalizedTemperature,
        StandardizedLogits,
        SortedLogits,
        Dist,
        MultiLevel,
        RefinedLogits,
        WassersteinLogits,
        ScaleDecoupled,
        GeneralizedDecoupledKD,
        EntropyAdaptiveKD,
        AlphaBetaKD,
        LabelSmoothing,
        TeacherFreeKD,
        UniversalSelfKD,
        NeuronSelectivity,
        VariationalInformation,
        FlowOfSolution,
        FactorTransfer,
        SimilarityPreserving,
        ProbabilisticTransfer,
        CorrelationCongruence,
        InstanceRelationshipGraph,
        ContrastiveRepresentation,
        OneForAll,
        DiffusionKD,
        WassersteinFeatures,
        SimpleRecipe,
        InformationTheoretic,
        OrthogonalProjections,
        Lift,
        DistillationOrientedTrainer,
    )
