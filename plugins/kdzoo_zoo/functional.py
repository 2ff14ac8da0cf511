"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.selectivity import neuron_selectivity_loss
from kdzoo_zoo.relation.rkd import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss
from kdzoo_zoo.scheme.dot import separate_momentum_trajectory

__all__ = [
    "attention_map",
    "attention_transfer_loss",
    "hint_loss",
    "neuron_selectivity_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "separate_momentum_trajectory",
    "soft_target_loss",
    "top_logits",
    "top_soft_target_loss",
]
