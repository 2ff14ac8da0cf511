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
from kdzoo_zoo.response.soft import soft_target_loss, top_logits, top_soft_target_loss

__all__ = [
    "attention_feature_loss",
    "attention_map",
    "attention_transfer_loss",
    "class_activation_map",
    "class_attention_loss",
    "function_consistency_loss",
    "hierarchical_context_loss",
    "hint_loss",
    "inter_channel_loss",
    "many_to_one_loss",
    "masked_generation_loss",
    "neuron_selectivity_loss",
    "normalize_logits",
    "relational_angle_loss",
    "relational_distance_loss",
    "reused_classifier_loss",
    "soft_target_loss",
    "softmax_regression_loss",
    "top_logits",
    "top_soft_target_loss",
]
