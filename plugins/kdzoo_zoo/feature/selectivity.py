"""Neuron selectivity: channels of two networks answer to the same regions. The loss, in the smaller of two forms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo_zoo.tensors import check_same, full_precision, to_common_size


def neuron_selectivity_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of two feature maps, kernel k(x, y) = (x . y)^2.

    Equation, with s_i the i-th of C channels of ``student_map``, t_j the j-th of C' channels of ``teacher_map``, each
    flattened to h w positions and divided by its length::

        loss = mean over b of  1/C^2 sum_ij (s_i . s_j)^2 + 1/C'^2 sum_ij (t_i . t_j)^2 - 2/(C C') sum_ij (s_i . t_j)^2

    The kernel matrices have C^2 + C'^2 + C C' entries for each sample. But sum_ij (s_i . t_j)^2 is the inner product of
    S'S and T'T, matrices of positions, so that the loss is the squared length of S'S / C - T'T / C'. That form is taken
    where its matrices are smaller, as those of deep stages are: value and gradient are the same.

    Args:
        student_map: B x C x H x W.
        teacher_map: B x C' x H' x W', any channels and size; the larger one is average-pooled. Not detached.

    Returns:
        A scalar, at least 0 up to rounding; 0 where the maps are equal.

    Raises:
        ValueError: the batches differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. Epsilon 1e-12 on
    the lengths.

    Source: Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, arXiv
    1707.01219, with its polynomial kernel of degree 2 and offset 0. The paper interpolates where sizes differ; here the
    larger map is pooled. The mean over the batch is kdzoo's.

    Example:
        >>> neuron_selectivity_loss(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[4.0, 3.0]]]]))
        tensor(0.1568)
    """
    check_same("batch", student_map, teacher_map, slice(1))
    student, teacher = (
        F.normalize(each.flatten(2), dim=2, eps=1e-12)
        for each in to_common_size(full_precision(student_map), full_precision(teacher_map))
    )
    positions, ours, theirs = student.shape[2], student.shape[1], teacher.shape[1]
    with torch.autocast(student.device.type, enabled=False):
        if positions**2 <= ours**2 + theirs**2 + ours * theirs:
            apart = student.mT @ student / ours - teacher.mT @ teacher / theirs
            return apart.square().sum(dim=(1, 2)).mean()
        pairs = ((student, student, 1), (teacher, teacher, 1), (student, teacher, -2))
        return torch.stack([sign * (one @ other.mT).square().mean() for one, other, sign in pairs]).sum()
