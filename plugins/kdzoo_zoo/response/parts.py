"""Divergences of two distributions over the classes, over some of them, or over two outcomes, from their logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def divergence(student: Tensor, teacher: Tensor, inside: Tensor | None = None) -> Tensor:
    """KL divergence of the student's softmax from the teacher's, over all classes or over some; one value a sample.

    Equation, with p and q the softmax of teacher and student over the classes c that count::

        sum_c p_c (log p_c - log q_c)

    Args:
        student: B x classes, softened logits, float32 or float64.
        teacher: B x classes, likewise.
        inside: B x classes, 1 for the classes that count and 0 for others, in the logits' precision; each sample has at
            least one that counts. By default all do.

    Returns:
        B values; 0 where the logits that count are equal up to a number that is added to all of them. The gradient in
        the student is q - p, and is not differentiated again.
    """
    values: Tensor = _Divergence.apply(student, teacher, inside)
    return values


class _Divergence(torch.autograd.Function):
    """Autograd would keep a tensor of all classes for each step of the logarithms; two are enough for the gradient."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, inside: Tensor | None) -> Tensor:
        student, q, student_most = _softmax(student, inside)
        teacher, p, teacher_most = _softmax(teacher, inside)
        # log p - log q is the gap between the logits, less one number for each sample.
        gap = teacher.sub_(student)
        between = (student_most / teacher_most).log()
        values = (p * gap).sum(dim=1, keepdim=True) - between
        ctx.save_for_backward(p, q, *([gap - between - values] if ctx.needs_input_grad[1] else []))
        return values.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        p, q, *excess = ctx.saved_tensors
        share = gradient[:, None]
        of_student = (q - p).mul_(share) if ctx.needs_input_grad[0] else None
        of_teacher = p * excess[0] * share if excess else None
        return of_student, of_teacher, None


def _softmax(logits: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Logits less the largest that counts, their softmax over the classes that count, and its largest value, B x 1."""
    counting = logits if inside is None else torch.add(logits, inside - 1, alpha=torch.finfo(logits.dtype).max)
    p = counting.softmax(dim=1)
    return logits - counting.amax(dim=1, keepdim=True), p, p.amax(dim=1, keepdim=True)


def two_way_divergence(student_margin: Tensor, teacher_margin: Tensor) -> Tensor:
    """KL divergence of two distributions over two outcomes, from the log-odds of the first; one value a sample.

    Equation, with p = sigmoid(teacher_margin) and q = sigmoid(student_margin)::

        p (log p - log q) + (1 - p) (log (1 - p) - log (1 - q))
    """
    first = F.logsigmoid(teacher_margin) - F.logsigmoid(student_margin)
    second = F.logsigmoid(-teacher_margin) - F.logsigmoid(-student_margin)
    return teacher_margin.sigmoid() * first + (-teacher_margin).sigmoid() * second
