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
    among: Tensor | None = None,
) -> Match:
    """KL(p_t || p_s) of each sample, p_x = softmax(x_logits / x_temperature), x = s, t.

    Args:
        student_logits: B x classes.
        teacher_logits: B x classes.
        student_temperature: the student's, above 0.
        teacher_temperature: the teacher's, above 0.
        besides: B, or B x k, classes that are left out of both softmaxes, one or k in each sample.
        among: B x classes, in the logits' precision: 1 for the classes that count, 0 for those that are left out; at
            least one of a sample counts.

    Returns:
        In at least float32; with a gradient in the logits, and in temperatures that are tensors.
    """
    student, teacher = full_precision(student_logits), full_precision(teacher_logits)
    counting = _besides(besides) if among is None else _Among(among)
    return Match(*_Match.apply(student, teacher, student_temperature, teacher_temperature, counting, True))


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
    counting = _besides(besides)
    return Match(*_Match.apply(student, teacher, student_temperature, teacher_temperature, counting, False))


def label_loss(logits: Tensor, target: Tensor, spread: float = 0.0) -> Tensor:
    """Cross-entropy of each sample with its label, of which a share may be spread evenly over all classes.

    Equation, with e = ``spread``, y = ``target``, p = softmax(logits), K classes::

        - (1 - e) log p_y - e / K sum_c log p_c

    Args:
        logits: B x classes.
        target: B, the labels.
        spread: from 0 to 1.

    Returns:
        B, in at least float32.
    """
    loss: Tensor = _LabelLoss.apply(full_precision(logits), target, spread)
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
    margin: Tensor = _Margin.apply(logits, target)
    return margin


def two_way_divergence(student_margin: Tensor, teacher_margin: Tensor) -> Tensor:
    """KL divergence of two distributions over two outcomes, from the log-odds of the first; one value a sample.

    Equation, with p = sigmoid(teacher_margin) and q = sigmoid(student_margin)::

        p (log p - log q) + (1 - p) (log (1 - p) - log (1 - q))
    """
    first = F.logsigmoid(teacher_margin) - F.logsigmoid(student_margin)
    second = F.logsigmoid(-teacher_margin) - F.logsigmoid(-student_margin)
    return teacher_margin.sigmoid() * first + (-teacher_margin).sigmoid() * second


def labels_of(batch: Batch) -> Tensor:
    """One label a sample, B: its own, or of mixed ones that with the largest share."""
    return batch.labels if batch.targets.ndim == 1 else batch.targets.argmax(dim=1)


class _All:
    """Which classes a softmax is over: all of them."""

    def top(self, logits: Tensor) -> Tensor:
        """The largest logit that counts, B x 1."""
        return logits.amax(dim=1, keepdim=True)

    def clear_(self, rows: Tensor) -> Tensor:
        """In place, 0 for the classes that are left out."""
        return rows


class _Besides(_All):
    """All but those of these numbers, B x k."""

    def __init__(self, classes: Tensor) -> None:
        self.classes = classes

    def top(self, logits: Tensor) -> Tensor:
        return logits.scatter(1, self.classes, float("-inf")).amax(dim=1, keepdim=True)

    def clear_(self, rows: Tensor) -> Tensor:
        return rows.scatter_(1, self.classes, 0.0)


class _Among(_All):
    """Those that have a 1 in B x classes of 1 and 0; a product is much faster than filling where a mask says so."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts

    def top(self, logits: Tensor) -> Tensor:
        # From the least one on, logits are at least 0, and the zeros of those that are left out never the largest.
        least = logits.amin(dim=1, keepdim=True)
        return (logits - least).mul_(self.counts).amax(dim=1, keepdim=True) + least

    def clear_(self, rows: Tensor) -> Tensor:
        return rows.mul_(self.counts)


def _besides(classes: Tensor | None) -> _All:
    return _All() if classes is None else _Besides(classes[:, None] if classes.ndim == 1 else classes)


class _Match(torch.autograd.Function):
    """Both exponentials are kept for the gradient, and the difference of the logarithms if the teacher has one too."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        student_temperature: Temperature,
        teacher_temperature: Temperature,
        counting: _All,
        less_entropy: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        student_scale, teacher_scale = 1 / student_temperature, 1 / teacher_temperature
        own, own_top = _below_top(student, student_scale, counting)
        theirs, their_top = _below_top(teacher, teacher_scale, counting)
        # Up to what is the same in a whole row: the logarithm of p_t / p_s, or of 1 / p_s.
        apart = theirs - own if less_entropy else -own
        own_sum, their_sum = _powers_(own, counting), _powers_(theirs, counting)
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
    def forward(ctx: Any, logits: Tensor, target: Tensor, spread: float) -> Tensor:
        label = target[:, None]
        below, _ = _below_top(logits, 1.0, _All())
        aim = below.gather(1, label)
        if spread:
            aim = torch.lerp(aim, below.mean(dim=1, keepdim=True), spread)
        total = _powers_(below, _All())
        ctx.spread = spread
        ctx.save_for_backward(below, total, label)
        return (total.log() - aim).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        powers, total, label = ctx.saved_tensors
        gradient = gradients[0][:, None]
        slope = powers * (gradient / total)
        if ctx.spread:
            slope.sub_(gradient * (ctx.spread / powers.shape[1]))
        return slope.scatter_add_(1, label, gradient * (ctx.spread - 1)), None, None


class _Margin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        label = target[:, None]
        others, top = _below_top(logits, 1.0, _Besides(label))
        total = _powers_(others, _Besides(label))
        ctx.save_for_backward(others, total, label)
        return ((logits.gather(1, label) - top) - total.log()).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        others, total, label = ctx.saved_tensors
        gradient = gradients[0][:, None]
        return (others * (-gradient / total)).scatter_(1, label, gradient), None


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


def _below_top(logits: Tensor, scale: float | Tensor, counting: _All) -> tuple[Tensor, Tensor]:
    """Scaled logits less the largest that counts, B x classes, 0 where left out; and that before the scale, B x 1."""
    top = counting.top(logits)
    below = counting.clear_(logits - top)
    return (below if isinstance(scale, float) and scale == 1 else below.mul_(scale)), top


def _powers_(below: Tensor, counting: _All) -> Tensor:
    """In place the exponential, but for what is left out, which has 0; its sum, B x 1."""
    return counting.clear_(below.exp_()).sum(dim=1, keepdim=True)


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
