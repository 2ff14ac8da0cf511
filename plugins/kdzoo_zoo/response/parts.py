"""Divergences of two distributions over the classes, over some of them, or over two outcomes, from their logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def partial_divergence(student: Tensor, teacher: Tensor, temperature: float, closed: Tensor | None = None) -> Tensor:
    """KL divergence of the student's softmax from the teacher's, over all classes or over some; one value a sample.

    Equation, with p and q the softmax of teacher / T and student / T over the classes c that count::

        sum_c p_c (log p_c - log q_c)

    Args:
        student: B x classes, or B x classes x N, logits, float32 or float64.
        teacher: likewise.
        temperature: T, above 0.
        closed: B x classes, 0 for the classes that count and the least number of the logits' precision for others; each
            sample has at least one that counts. By default all do.

    Returns:
        B values, or B x N; 0 where the logits that count are equal up to a number that is added to all of them. The
        gradient in the student is (q - p) / T, and is not differentiated again.
    """
    values: Tensor = _Divergence.apply(student, teacher, temperature, closed)
    return values


class _Divergence(torch.autograd.Function):
    """Autograd would keep a tensor of all classes for each step of the logarithms; two are enough for the gradient."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float, closed: Tensor | None) -> Tensor:
        own, q, own_most = _softmax(student, temperature, closed)
        gap, p, most = _softmax(teacher, temperature, closed)
        # log p - log q is the gap between the logits, less one number for each sample.
        gap.sub_(own)
        del own
        between = (own_most / most).log()
        values = (p * gap).sum(dim=-1, keepdim=True) - between
        ctx.temperature = temperature
        ctx.save_for_backward(p, q, *([gap - between - values] if ctx.needs_input_grad[1] else []))
        return values.squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        p, q, *excess = ctx.saved_tensors
        share = gradient.unsqueeze(-1) / ctx.temperature
        of_student = (q - p).mul_(share).movedim(-1, 1) if ctx.needs_input_grad[0] else None
        of_teacher = (p * excess[0]).mul_(share).movedim(-1, 1) if excess else None
        return of_student, of_teacher, None, None


def _softmax(logits: Tensor, temperature: float, closed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Logits / T less the largest that counts, their softmax over those that count, and its largest value.

    Classes come last, and lie side by side in memory, where a softmax is fastest.
    """
    classes_last = logits.movedim(1, -1)
    softened = torch.empty_like(classes_last, memory_format=torch.contiguous_format)
    torch.div(classes_last, temperature, out=softened)
    counting = softened if closed is None else softened + closed
    p = counting.softmax(dim=-1)
    return softened.sub_(counting.amax(dim=-1, keepdim=True)), p, p.amax(dim=-1, keepdim=True)


def two_way_divergence(student_margin: Tensor, teacher_margin: Tensor) -> Tensor:
    """KL divergence of two distributions over two outcomes, from the log-odds of the first; one value a sample.

    Equation, with p = sigmoid(teacher_margin) and q = sigmoid(student_margin)::

        p (log p - log q) + (1 - p) (log (1 - p) - log (1 - q))
    """
    first = F.logsigmoid(teacher_margin) - F.logsigmoid(student_margin)
    second = F.logsigmoid(-teacher_margin) - F.logsigmoid(-student_margin)
    return teacher_margin.sigmoid() * first + (-teacher_margin).sigmoid() * second
