"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.feature.afd import attention_feature_loss
from kdzoo_zoo.feature.catkd import class_activation_map, class_attention_loss
from kdzoo_zoo.feature.fcfd import function_consistency_loss
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.ickd import inter_channel_loss
from kdzoo_zoo.feature.mgd import masked_generation_loss
from kdzoo_zoo.feature.norm import many_to_one_loss, normalize_logits
from kdzoo_zoo.feature.reviewkd import hierarchical_context_loss
from kdzoo_zoo.feature.selectivity import neuron_selectivity_loss
from kdzoo_zoo.feature.simkd import reused_classifier_loss
from kdzoo_zoo.feature.srrl import softmax_regression_loss
from kdzoo_zoo.relation.rkd import relational_angle_loss, relational_distance_loss
from kdzoo_zoo.response.ctkd import curriculum_temperature_loss
from kdzoo_zoo.response.dkd import decoupled_loss
from kdzoo_zoo.response.hard import hard_label_loss
from kdzoo_zoo.response.logit import logit_matching_loss
from kdzoo_zoo.response.ls import standardize_logits
from kdzoo_zoo.response.nkd import normalized_knowledge_loss
from kdzoo_zoo.response.normkd import normalized_temperature_loss
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss
from kdzoo_zoo.response.sort import sort_logits
from kdzoo_zoo.response.ttm import transformed_teacher_loss
from kdzoo_zoo.response.wsld import weighted_soft_label_loss
from kdzoo_zoo.response.wttm import weighted_transformed_teacher_loss

__all__ = [
    "attention_feature_loss",
    "attention_map",
    "attention_transfer_loss",
    "class_activation_map",
    "class_attention_loss",
    "curriculum_temperature_loss",
    "decoupled_loss",
    "function_consistency_loss",
    "hard_label_loss",
    "hierarchical_context_loss",
    "hint_loss",
    "inter_channel_loss",
    "logit_matching_loss",
    "many_to_one_loss",
    "masked_generation_loss",
    "neuron_selectivity_loss",
    "normalize_logits",
    "normalized_knowledge_loss",
    "normalized_temperature_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "reused_classifier_loss",
    "soft_target_loss",
    "softmax_regression_loss",
    "sort_logits",
    "standardize_logits",
    "top_logits",
    "top_soft_target_loss",
    "transformed_teacher_loss",
    "weighted_soft_label_loss",
    "weighted_transformed_teacher_loss",
]
