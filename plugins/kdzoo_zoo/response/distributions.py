"""What the losses on logits share: how far two softmaxes are apart, the classes beside the label, the spread of a row.

The exponential is what costs time here, some ten times as much as a sum or a product. So each function takes one of
each logit, for value and gradient together, and works in the memory that it has.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdzoo import Batch
from kdzoo_zoo.tensors import full_precision

Temperature: TypeAlias = float | Tensor
"""What logits are divided by before a softmax: one number for all samples, or B x 1."""


class Match(NamedTuple):
    """Two softmaxes compared, sample by sample.

    Args:
        distance: B; the divergence KL(p_t || p_s), or the cross-entropy.
        student_mass: B; log sum exp of the student's scaled logits, over the classes that count.
        teacher_mass: B; the teacher's.
    """

    distance: Tensor
    student_mass: Tensor
    teacher_mass: Tensor


def divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_temperature: Temperature,
    teacher_temperature: Temperature,
    *,
    besides: Tensor | None = None,
) -> Match:
    """KL(p_t || p_s) of each sample, p_x = softmax(x_logits / x_temperature), x = s, t.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes.
        student_temperature: the student's, above 0.
        teacher_temperature: the teacher's, above 0.
        besides: B, classes that are left out of both softmaxes, one in each sample.

    Returns:
        In at least float32; with a gradient in the logits, and in temperatures that are tensors.
    """
    student, teacher = full_precision(student_logits), full_precision(teacher_logits)
    return Match(*_Match.apply(student, teacher, student_temperature, teacher_temperature, besides, True))


def cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_temperature: Temperature,
    teacher_temperature: Temperature,
    *,
    besides: Tensor | None = None,
) -> Match:
    """- sum over classes of p_t log p_s: :func:`divergence` without the teacher's entropy taken off."""
    student, teacher = full_precision(student_logits), full_precision(teacher_logits)
    return Match(*_Match.apply(student, teacher, student_temperature, teacher_temperature, besides, False))


def label_loss(logits: Tensor, target: Tensor) -> Tensor:
    """- log softmax(logits)[target] of each sample: B x classes and B -> B, in at least float32."""
    loss: Tensor = _LabelLoss.apply(full_precision(logits), target)
    return loss


def deviation(logits: Tensor) -> Tensor:
    """Standard deviation of each row over its classes, by K - 1: B x classes -> B x 1, in at least float32.

    0 for a row of equal values, and no gradient there.
    """
    found: Tensor = _Deviation.apply(full_precision(logits))
    return found


def log_probabilities(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(logits / temperature), B x classes, in at least float32."""
    return F.log_softmax(full_precision(logits) / temperature, dim=1)


def target_margin(logits: Tensor, target: Tensor) -> Tensor:
    """log p_y - log (1 - p_y) of softmax(logits), B, so that p_y is its sigmoid; without a probability on the way.

    Args:
        logits: B x classes.
        target: B, the labels y.
    """
    label = target[:, None]
    others = logits.scatter(1, label, float("-inf"))
    return logits.gather(1, label).squeeze(1) - others.logsumexp(dim=1)


def labels_of(batch: Batch) -> Tensor:
    """One label a sample, B: its own, or of mixed ones that with the largest share."""
    return batch.labels if batch.targets.ndim == 1 else batch.targets.argmax(dim=1)


class _Match(torch.autograd.Function):
    """Both exponentials are kept for the gradient, and the difference of the logarithms if the teacher has one too."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        student_temperature: Temperature,
        teacher_temperature: Temperature,
        besides: Tensor | None,
        less_entropy: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        student_scale, teacher_scale = 1 / student_temperature, 1 / teacher_temperature
        label = None if besides is None else besides[:, None]
        own, own_top = _below_top(student, student_scale, label)
        theirs, their_top = _below_top(teacher, teacher_scale, label)
        # Up to what is the same in a whole row: the logarithm of p_t / p_s, or of 1 / p_s.
        apart = theirs - own if less_entropy else -own
        own_sum, their_sum = _powers_(own, label), _powers_(theirs, label)
        own_log, their_log = own_sum.log(), their_sum.log()
        rest = own_log - their_log if less_entropy else own_log
        taught = ctx.needs_input_grad[1] or ctx.needs_input_grad[3]
        weighted = apart * theirs if taught else apart.mul_(theirs)
        mean = weighted.sum(dim=1, keepdim=True) / their_sum
        ctx.scales = student_scale, teacher_scale
        ctx.save_for_backward(
            own,
            own_sum,
            theirs,
            their_sum,
            apart.sub_(mean) if taught else None,
            student if ctx.needs_input_grad[2] else None,
            own_top if ctx.needs_input_grad[2] else None,
            teacher if ctx.needs_input_grad[3] else None,
            their_top if ctx.needs_input_grad[3] else None,
        )
        masses = own_top * student_scale + own_log, their_top * teacher_scale + their_log
        return (mean + rest).squeeze(1), masses[0].squeeze(1), masses[1].squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        distance, own_mass, their_mass = (gradient[:, None] for gradient in gradients)
        own, own_sum, theirs, their_sum, apart, student, own_top, teacher, their_top = ctx.saved_tensors
        found: list[Tensor | None] = [None] * 6
        if ctx.needs_input_grad[0] or student is not None:
            scale = ctx.scales[0]
            slope = own * (scale * (distance + own_mass) / own_sum)
            found[0] = slope.addcmul_(theirs, scale * distance / their_sum, value=-1)
            found[2] = _along(slope, student, own_top, scale, own_mass)
        if apart is not None:
            scale = ctx.scales[1] / their_sum
            slope = (apart * (scale * distance)).add_(scale * their_mass)
            found[1] = slope.mul_(theirs)
            found[3] = _along(slope, teacher, their_top, ctx.scales[1], their_mass)
        return tuple(found)


class _LabelLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        label = target[:, None]
        top = logits.amax(dim=1, keepdim=True)
        powers = (logits - top).exp_()
        total = powers.sum(dim=1, keepdim=True)
        ctx.save_for_backward(powers, total, label)
        return ((top - logits.gather(1, label)) + total.log()).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        powers, total, label = ctx.saved_tensors
        gradient = gradients[0][:, None]
        return (powers * (gradient / total)).scatter_add_(1, label, -gradient), None


class _Deviation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        found = deviation_of(centred(logits))
        ctx.save_for_backward(logits, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        logits, found = ctx.saved_tensors
        slope: Tensor = gradients[0] / (max(logits.shape[1] - 1, 1) * found)
        return centred(logits).mul_(slope.masked_fill_(found == 0, 0.0))


def centred(logits: Tensor) -> Tensor:
    """Each row less its mean, as a new tensor; without a gradient inside of one that is written by hand."""
    # From the first value on, equal values are 0 and not what rounding leaves of their mean.
    rows = logits - logits[:, :1]
    return rows.sub_(rows.mean(dim=1, keepdim=True))


def deviation_of(rows: Tensor) -> Tensor:
    """Standard deviation, by K - 1, of rows whose mean is 0: B x classes -> B x 1."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return length / math.sqrt(max(rows.shape[1] - 1, 1))


def _below_top(logits: Tensor, scale: float | Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scaled logits less the largest of their row, B x classes, and that before the scale, B x 1; 0 at the label."""
    if label is None:
        top = logits.amax(dim=1, keepdim=True)
        below = logits - top
    else:
        below = logits.scatter(1, label, float("-inf"))
        top = below.amax(dim=1, keepdim=True)
        below.sub_(top).scatter_(1, label, 0.0)
    return (below if isinstance(scale, float) and scale == 1 else below.mul_(scale)), top


def _powers_(below: Tensor, label: Tensor | None) -> Tensor:
    """In place the exponential, but for the label, which has 0; its sum, B x 1."""
    below.exp_()
    if label is not None:
        below.scatter_(1, label, 0.0)
    return below.sum(dim=1, keepdim=True)


def _along(
    slope: Tensor, logits: Tensor | None, top: Tensor | None, scale: float | Tensor, mass: Tensor
) -> Tensor | None:
    """The gradient in a temperature.

    Args:
        slope: B x classes, the gradient in the logits, which has the scale as a factor.
        logits: B x classes.
        top: B x 1, the largest that counts.
        scale: 1 / T.
        mass: B x 1, the gradient in the mass: times the scale, it is the sum of each row of the slope.
    """
    if logits is None or top is None or not isinstance(scale, Tensor):
        return None
    # A number that is added to all logits counts in the mass alone; in the sum it would only cost digits.
    along = (logits - top).mul_(slope).sum(dim=1, keepdim=True) + top * (scale * mass)
    return (along * -scale).sum_to_size(scale.shape)
