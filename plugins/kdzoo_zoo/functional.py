"""The losses of the built-in strategies, and others for plugins, as pure functions: tensors in, scalar or map out."""

from kdzoo_zoo.attention.at import attention_map, attention_transfer_loss
from kdzoo_zoo.feature.fitnets import hint_loss
from kdzoo_zoo.feature.selectivity import neuron_selectivity_loss
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
    "attention_map",
    "attention_transfer_loss",
    "curriculum_temperature_loss",
    "decoupled_loss",
    "hard_label_loss",
    "hint_loss",
    "logit_matching_loss",
    "neuron_selectivity_loss",
    "normalized_knowledge_loss",
    "normalized_temperature_loss",
    "relational_angle_loss",
    "relational_distance_loss",
    "soft_target_loss",
    "sort_logits",
    "standardize_logits",
    "top_logits",
    "top_soft_target_loss",
    "transformed_teacher_loss",
    "weighted_soft_label_loss",
    "weighted_transformed_teacher_loss",
]
