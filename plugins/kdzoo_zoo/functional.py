"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.contrast.crd import contrastive_memory_loss, contrastive_normalizer, update_contrastive_memory
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.fsp import flow_of_solution_loss
from kdzoo_zoo.feature.ft import factor_transfer_loss
from kdzoo_zoo.feature.nst import neuron_selectivity_loss
from kdzoo_zoo.feature.vid import variational_information_loss
from kdzoo_zoo.relation.cc import correlation_congruence_kernel_loss, correlation_congruence_loss
from kdzoo_zoo.relation.irg import instance_edge_loss, instance_transformation_loss
from kdzoo_zoo.relation.pkt import probabilistic_transfer_loss
from kdzoo_zoo.relation.rkd import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.relation.sp import similarity_preserving_loss
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss

__all__ = [
    "attention_map",
    "attention_transfer_loss",
    "contrastive_memory_loss",
    "contrastive_normalizer",
    "correlation_congruence_kernel_loss",
    "correlation_congruence_loss",
    "factor_transfer_loss",
    "flow_of_solution_loss",
    "hint_loss",
    "instance_edge_loss",
    "instance_transformation_loss",
    "neuron_selectivity_loss",
    "probabilistic_transfer_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "similarity_preserving_loss",
    "soft_target_loss",
    "top_logits",
    "top_soft_target_loss",
    "update_contrastive_memory",
    "variational_information_loss",
]
