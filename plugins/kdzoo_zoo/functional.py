"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.contrast.sskd import self_supervised_similarity_loss, transformed_view_loss
from kdzoo_zoo.feature.ab import activation_boundary_loss
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.kdpp import norm_direction_loss
from kdzoo_zoo.feature.ofd import batch_norm_margin, partial_l2_loss
from kdzoo_zoo.feature.selectivity import neuron_selectivity_loss
from kdzoo_zoo.relation.rkd import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss

__all__ = [
    "activation_boundary_loss",
    "attention_map",
    "attention_transfer_loss",
    "batch_norm_margin",
    "hint_loss",
    "neuron_selectivity_loss",
    "norm_direction_loss",
    "partial_l2_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "self_supervised_similarity_loss",
    "soft_target_loss",
    "top_logits",
    "top_soft_target_loss",
    "transformed_view_loss",
]
