"""The built-in strategies, as a plugin like any other.

Torch is imported inside the hook, so that finding this plugin costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from kdzoo import hookimpl

if TYPE_CHECKING:
    from kdzoo import Strategy

kdzoo_api = "1.3"

STRATEGIES = {
    "attention.at": "AttentionTransfer",
    "baseline.ce": "CrossEntropy",
    "contrast.crd": "ContrastiveRepresentation",
    "contrast.sskd": "SelfSupervision",
    "feature.ab": "ActivationBoundaries",
    "feature.afd": "AttentiveFeatures",
    "feature.catkd": "ClassAttentionTransfer",
    "feature.diffkd": "DiffusionKD",
    "feature.fitnets": "FitNets",
    "feature.fsp": "FlowOfSolution",
    "feature.ft": "FactorTransfer",
    "feature.ickd": "InterChannelKD",
    "feature.itrd": "InformationTheoretic",
    "feature.kdpp": "NormDirection",
    "feature.lift": "Lift",
    "feature.mgd": "MaskedGeneration",
    "feature.norm": "ManyToOne",
    "feature.nst": "NeuronSelectivity",
    "feature.ofa": "OneForAll",
    "feature.ofd": "Overhaul",
    "feature.reviewkd": "ReviewKD",
    "feature.simkd": "ReusedClassifier",
    "feature.srd": "SimpleRecipe",
    "feature.srrl": "SoftmaxRegression",
    "feature.vid": "VariationalInformation",
    "feature.vkd": "OrthogonalProjections",
    "feature.wkd_f": "WassersteinFeatures",
    "relation.cc": "CorrelationCongruence",
    "relation.irg": "InstanceRelationshipGraph",
    "relation.pkt": "ProbabilisticTransfer",
    "relation.rkd": "RelationalKD",
    "relation.sp": "SimilarityPreserving",
    "response.abkd": "AlphaBetaKD",
    "response.ctkd": "CurriculumTemperature",
    "response.deit": "DistillationToken",
    "response.dist": "Dist",
    "response.dkd": "DecoupledKD",
    "response.eakd": "EntropyAdaptiveKD",
    "response.gdkd": "GeneralizedDecoupledKD",
    "response.hard": "HardLabels",
    "response.logit": "LogitMatching",
    "response.ls": "StandardizedLogits",
    "response.mlkd": "MultiLevel",
    "response.nkd": "NormalizedKD",
    "response.normkd": "NormalizedTemperature",
    "response.rld": "RefinedLogits",
    "response.sdd": "ScaleDecoupled",
    "response.smooth": "LabelSmoothing",
    "response.soft": "SoftTargets",
    "response.sort": "SortedLogits",
    "response.tfkd": "TeacherFreeKD",
    "response.ttm": "TransformedTeacher",
    "response.uskd": "UniversalSelfKD",
    "response.wkd_l": "WassersteinLogits",
    "response.wsld": "WeightedSoftLabels",
    "response.wttm": "WeightedTransformedTeacher",
    "scheme.ban": "BornAgain",
    "scheme.dml": "MutualLearning",
    "scheme.dot": "DistillationOrientedTrainer",
    "scheme.takd": "TeacherAssistants",
}
"""Module of each strategy, by family, and its class."""


@hookimpl
def kdzoo_strategies() -> Iterable[type[Strategy]]:
    """The built-in strategies."""
    return [getattr(import_module(f"{__name__}.{module}"), name) for module, name in STRATEGIES.items()]
