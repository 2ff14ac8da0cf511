"""The loss of FCFD, for plugins that can run the stages of both networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from kdzoo_zoo.tensors import check_same, full_precision, in_memory_order


def function_consistency_loss(student_maps: Sequence[Tensor], teacher_map: Tensor, final: bool) -> Tensor:
    """Squared differences of maps that passed through both networks, and the teacher's own map.

    Equation, with the maps s and t = ``teacher_map``::

        loss = sum over s of mean (s - t)^2
               [+ sum over s of mean over b, c of (average over positions of relu(s) - that of relu(t))^2, if final]

    Args:
        student_maps: each B x C x H x W: the student's map, bridged to the teacher's shape, and what later stages of
            the teacher make of it.
        teacher_map: B x C x H x W. Not detached: pass it without gradient.
        final: whether the maps are those of the last stage, which the head averages.

    Returns:
        A scalar, at least 0: the sum over the maps of means over all elements; 0 where all equal the teacher's.

    Raises:
        ValueError: there is no map, or the shapes differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Liu, Kan, Shan, Chen, "Function-Consistent Feature Distillation", ICLR 2023, arXiv 2304.11832. Authors'
    code: https://github.com/LiuDongyang6/FCFD. kdzoo has no strategy of this loss: it needs stages that can be run one
    by one.

    Example:
        >>> import torch
        >>> function_consistency_loss([torch.tensor([[[[1.0, -3.0]]]])], torch.zeros(1, 1, 1, 2), final=True)
        tensor(5.2500)
    """
    if not student_maps:
        raise ValueError("there is no map to compare with the teacher's")
    teacher = full_precision(teacher_map)
    average = teacher.relu().mean(dim=(2, 3)) if final else teacher
    loss = teacher.new_zeros(())
    for each in student_maps:
        check_same("maps", each, teacher_map)
        student = full_precision(each)
        loss = loss + F.mse_loss(*in_memory_order(student, teacher))
        if final:
            loss = loss + F.mse_loss(student.relu().mean(dim=(2, 3)), average)
    return loss
