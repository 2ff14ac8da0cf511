"""The loss: two distributions over the same remembered samples, the student's and the teacher's."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_distillation(
    student: Tensor,
    teacher: Tensor,
    queue: Tensor,
    skip: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Cross-entropy of how similar each sample is to itself and to the queue, as the student and the teacher see it.

    Equation::

        z_s, z_t, d = student, teacher, queue, each row divided by its Euclidean norm
        a_s[i] = (z_s[i] . z_t[i], z_s[i] . d[1], ..., z_s[i] . d[K]) / student_temperature
        a_t[i] = (z_t[i] . z_t[i], z_t[i] . d[1], ..., z_t[i] . d[K]) / teacher_temperature
        loss = mean over i of -sum over j of softmax(a_t[i])[j] log softmax(a_s[i])[j]

    Args:
        student: B x D, the student's embeddings, already brought to the teacher's width.
        teacher: B x D. Not detached: pass it without gradient.
        queue: K x D, teacher embeddings of other samples.
        skip: B x K, true where an entry of the queue has no part in a sample's two distributions.
        student_temperature: above 0; divides the student's similarities.
        teacher_temperature: above 0; divides the teacher's.

    Returns:
        A scalar, at least 0: the mean over the samples. At a student equal to its teacher, with equal temperatures, it
        is the entropy of the teacher's distribution, and not 0.

    Raises:
        ValueError: the shapes do not fit.

    Precision: computed in the widest of the three precisions, at least float32, under autocast too: at a temperature of
    0.01 the rounding of bfloat16 would move a logit by 0.2. Norms below 1e-12 count as 1e-12. Memory: B x (K + 1).

    Example, where the student finds the sample and the one remembered equally near::

        >>> student, teacher, queue = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> loss = similarity_distillation(student, teacher, queue, torch.tensor([[False]]), 0.2, 0.01)
        >>> round(loss.item(), 4)  # log(2): the teacher is certain that it is the sample itself
        0.6931

    Source: Fang, Wang, Wang, Zhang, Yang, Liu, "SEED: Self-supervised Distillation For Visual Representation", ICLR
    2021, arXiv 2101.04731. Authors' code: https://github.com/jacobswan1/SEED. There is no ``skip`` in the paper.
    """
    if student.shape != teacher.shape or queue.shape[1:] != teacher.shape[1:]:
        shapes = f"{tuple(student.shape)}, {tuple(teacher.shape)} and {tuple(queue.shape)}"
        raise ValueError(f"student, teacher and queue must be B x D, B x D and K x D, not {shapes}")
    with torch.autocast(student.device.type, enabled=False):
        dtype = reduce(torch.promote_types, (student.dtype, teacher.dtype, queue.dtype), torch.float32)
        own, taught, others = (F.normalize(x.to(dtype), dim=1) for x in (student, teacher, queue))
        guess = _similarities(own, taught, others, skip) / student_temperature
        target = _similarities(taught, taught, others, skip) / teacher_temperature
        # A skipped entry has the probability 0, whose logarithm must not meet it: 0 times infinity is no number.
        log_guess = guess.log_softmax(dim=1).masked_fill(guess.isneginf(), 0.0)
        return -(target.softmax(dim=1) * log_guess).sum(dim=1).mean()


def _similarities(own: Tensor, taught: Tensor, others: Tensor, skip: Tensor) -> Tensor:
    """B x (1 + K): to the teacher's embedding of the same sample, then to the queue."""
    itself = (own * taught).sum(dim=1, keepdim=True)
    return torch.cat([itself, (own @ others.T).masked_fill(skip, float("-inf"))], dim=1)
