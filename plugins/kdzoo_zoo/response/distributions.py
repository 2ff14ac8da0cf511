"""What the losses on logits share: softened distributions, the classes beside the label, the spread of a row."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, PairError, Setup
from kdzoo_zoo.tensors import full_precision


def log_probabilities(logits: Tensor, temperature: float | Tensor) -> Tensor:
    """log softmax(logits / temperature), B x classes, in at least float32."""
    return F.log_softmax(full_precision(logits) / temperature, dim=1)


class TargetSplit(NamedTuple):
    """A distribution over the classes in two parts: the label against all others, and the others among themselves.

    Args:
        margin: B; log p_y - log (1 - p_y), so that p_y is its sigmoid.
        others: B x classes; log-probabilities among the other classes, and 0 at the label.
    """

    margin: Tensor
    others: Tensor


def split_target(logits: Tensor, target: Tensor) -> TargetSplit:
    """Both parts of softmax(logits), B x classes, for the labels ``target``, B, without a probability on the way.

    A label that takes everything leaves the others as they are: they have their own normalisation, in log space.
    """
    others, margin = _apart(logits, target)
    # A 0 in place of -inf: 0 in both networks adds nothing to a divergence, and has no gradient.
    return TargetSplit(margin, F.log_softmax(others, dim=1).scatter(1, target[:, None], 0.0))


def target_margin(logits: Tensor, target: Tensor) -> Tensor:
    """The first part of :func:`split_target` alone."""
    return _apart(logits, target)[1]


def _apart(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The logits without the label's, B x classes, and how far that is above all of them together, B."""
    label = target[:, None]
    others = logits.scatter(1, label, float("-inf"))
    return others, logits.gather(1, label).squeeze(1) - others.logsumexp(dim=1)


class Spread(NamedTuple):
    """The rows of logits around their means.

    Args:
        centred: B x classes, without the row's mean.
        deviation: B x 1, its standard deviation over the classes, by K - 1.
        constant: B x 1, whether all values of the row are equal; the deviation is 1 there, for a division.
    """

    centred: Tensor
    deviation: Tensor
    constant: Tensor


def spread(logits: Tensor) -> Spread:
    """Each row's differences from its mean, and their standard deviation, with a gradient also in a constant row."""
    # From the first value on, equal values are 0 and not what rounding leaves of their mean.
    shifted = logits - logits[:, :1].detach()
    centred = shifted - shifted.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / max(logits.shape[1] - 1, 1)
    constant = variance == 0
    return Spread(centred, variance.masked_fill(constant, 1.0).sqrt(), constant)


def labels_of(batch: Batch) -> Tensor:
    """One label a sample, B: its own, or of mixed ones that with the largest share."""
    return batch.labels if batch.targets.ndim == 1 else batch.targets.argmax(dim=1)


def refuse_other_classes(name: str, setup: Setup) -> None:
    """Refuse networks whose logits do not speak of the same classes.

    Raises:
        PairError: the numbers of classes differ.
    """
    student, teacher = setup.student.num_classes, setup.teacher.num_classes
    if student != teacher:
        raise PairError(
            f"{name} compares answers class by class, but the student has {student} classes and the teacher {teacher}: "
            "use a teacher trained on the dataset's classes"
        )
