"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.contrast.crd import contrastive_memory_loss, contrastive_normalizer, update_contrastive_memory
from kdzoo_zoo.contrast.sskd import self_supervised_similarity_loss, transformed_view_loss
from kdzoo_zoo.feature.ab import activation_boundary_loss
from kdzoo_zoo.feature.afd import attention_feature_loss
from kdzoo_zoo.feature.catkd import class_activation_map, class_attention_loss
from kdzoo_zoo.feature.diffusion import ddim_step
from kdzoo_zoo.feature.fcfd import function_consistency_loss
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.fsp import flow_of_solution_loss
from kdzoo_zoo.feature.ft import factor_transfer_loss
from kdzoo_zoo.feature.ickd import inter_channel_loss
from kdzoo_zoo.feature.itrd import information_correlation_loss, information_mutual_loss
from kdzoo_zoo.feature.kdpp import norm_direction_loss
from kdzoo_zoo.feature.mgd import masked_generation_loss
from kdzoo_zoo.feature.norm import many_to_one_loss, normalize_logits
from kdzoo_zoo.feature.nst import neuron_selectivity_loss
from kdzoo_zoo.feature.ofa import one_for_all_loss
from kdzoo_zoo.feature.ofd import batch_norm_margin, partial_l2_loss
from kdzoo_zoo.feature.reviewkd import hierarchical_context_loss
from kdzoo_zoo.feature.simkd import reused_classifier_loss
from kdzoo_zoo.feature.srd import log_power_loss
from kdzoo_zoo.feature.srrl import softmax_regression_loss
from kdzoo_zoo.feature.vid import variational_information_loss
from kdzoo_zoo.feature.vkd import orthogonal_projection_loss
from kdzoo_zoo.feature.wkd_f import wasserstein_feature_loss
from kdzoo_zoo.relation.cc import correlation_congruence_kernel_loss, correlation_congruence_loss
from kdzoo_zoo.relation.irg import instance_edge_loss, instance_transformation_loss
from kdzoo_zoo.relation.pkt import probabilistic_transfer_loss
from kdzoo_zoo.relation.rkd import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.relation.sp import similarity_preserving_loss
from kdzoo_zoo.response.abkd import alpha_beta_loss
from kdzoo_zoo.response.ctkd import curriculum_temperature_loss
from kdzoo_zoo.response.dist import dist_loss
from kdzoo_zoo.response.dkd import decoupled_loss
from kdzoo_zoo.response.eakd import entropy_adaptive_loss
from kdzoo_zoo.response.gdkd import generalized_decoupled_loss
from kdzoo_zoo.response.hard import hard_label_loss
from kdzoo_zoo.response.logit import logit_matching_loss
from kdzoo_zoo.response.ls import standardize_logits
from kdzoo_zoo.response.mlkd import batch_correlation_loss, class_correlation_loss, multi_level_loss
from kdzoo_zoo.response.nkd import normalized_knowledge_loss
from kdzoo_zoo.response.normkd import normalized_temperature_loss
from kdzoo_zoo.response.rld import refined_logit_loss
from kdzoo_zoo.response.sdd import scale_decoupled_loss
from kdzoo_zoo.response.smooth import label_smoothing_loss
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss
from kdzoo_zoo.response.sort import sort_logits
from kdzoo_zoo.response.tfkd import virtual_teacher_loss
from kdzoo_zoo.response.ttm import transformed_teacher_loss
from kdzoo_zoo.response.uskd import universal_self_loss
from kdzoo_zoo.response.wkd_l import wasserstein_logit_loss
from kdzoo_zoo.response.wsld import weighted_soft_label_loss
from kdzoo_zoo.response.wttm import weighted_transformed_teacher_loss
from kdzoo_zoo.scheme.dot import separate_momentum_trajectory

__all__ = [
    "activation_boundary_loss",
    "alpha_beta_loss",
    "attention_feature_loss",
    "attention_map",
    "attention_transfer_loss",
    "batch_correlation_loss",
    "batch_norm_margin",
    "class_activation_map",
    "class_attention_loss",
    "class_correlation_loss",
    "contrastive_memory_loss",
    "contrastive_normalizer",
    "correlation_congruence_kernel_loss",
    "correlation_congruence_loss",
    "curriculum_temperature_loss",
    "ddim_step",
    "decoupled_loss",
    "dist_loss",
    "entropy_adaptive_loss",
    "factor_transfer_loss",
    "flow_of_solution_loss",
    "function_consistency_loss",
    "generalized_decoupled_loss",
    "hard_label_loss",
    "hierarchical_context_loss",
    "hint_loss",
    "information_correlation_loss",
    "information_mutual_loss",
    "instance_edge_loss",
    "instance_transformation_loss",
    "inter_channel_loss",
    "label_smoothing_loss",
    "log_power_loss",
    "logit_matching_loss",
    "many_to_one_loss",
    "masked_generation_loss",
    "multi_level_loss",
    "neuron_selectivity_loss",
    "norm_direction_loss",
    "normalize_logits",
    "normalized_knowledge_loss",
    "normalized_temperature_loss",
    "one_for_all_loss",
    "orthogonal_projection_loss",
    "partial_l2_loss",
    "probabilistic_transfer_loss",
    "refined_logit_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "reused_classifier_loss",
    "scale_decoupled_loss",
    "self_supervised_similarity_loss",
    "separate_momentum_trajectory",
    "similarity_preserving_loss",
    "soft_target_loss",
    "softmax_regression_loss",
    "sort_logits",
    "standardize_logits",
    "top_logits",
    "top_soft_target_loss",
    "transformed_teacher_loss",
    "transformed_view_loss",
    "universal_self_loss",
    "update_contrastive_memory",
    "variational_information_loss",
    "virtual_teacher_loss",
    "wasserstein_feature_loss",
    "wasserstein_logit_loss",
    "weighted_soft_label_loss",
    "weighted_transformed_teacher_loss",
]
