"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.feature.diffusion import ddim_step
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.itrd import information_correlation_loss, information_mutual_loss
from kdzoo_zoo.feature.ofa import one_for_all_loss
from kdzoo_zoo.feature.selectivity import neuron_selectivity_loss
from kdzoo_zoo.feature.srd import log_power_loss
from kdzoo_zoo.feature.vkd import orthogonal_projection_loss
from kdzoo_zoo.feature.wkd_f import wasserstein_feature_loss
from kdzoo_zoo.relation.rkd import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss
from kdzoo_zoo.scheme.dot import separate_momentum_trajectory

__all__ = [
    "attention_map",
    "attention_transfer_loss",
    "ddim_step",
    "hint_loss",
    "information_correlation_loss",
    "information_mutual_loss",
    "log_power_loss",
    "neuron_selectivity_loss",
    "one_for_all_loss",
    "orthogonal_projection_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "separate_momentum_trajectory",
    "soft_target_loss",
    "top_logits",
    "top_soft_target_loss",
    "wasserstein_feature_loss",
]
