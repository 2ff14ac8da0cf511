"""Sorted logits: what other strategies see of the teacher puts the label first."""

from __future__ import annotations

import torch
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import labels_of
from kdzoo_zoo.tensors import full_precision


def sort_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The same values in each row, given to the classes anew: the label has the largest, the others keep their order.

    Equation, with y = ``target`` and v the row's values from large to small::

        z_y = v_1,  z_c = v_(1 + place of c among the classes other than y)

    A row whose label has the largest value stays as it is; in another, every class above the label goes one place down.

    Args:
        logits: B x classes.
        target: B, int64, the labels.

    Returns:
        B x classes. Its gradient goes to the values, wherever they were.

    Precision: computed in float32 for half-precision logits, else in the logits' own; no arithmetic, and so no
    rounding.

    Source: Limantoro, "Parameter-Free Logit Distillation via Sorting Mechanism", IEEE Signal Processing Letters 2025,
    arXiv 2508.16544. Authors' code: https://github.com/StephenEkaputra/SortKD.

    Example:
        >>> sort_logits(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([2]))
        tensor([[2., 1., 3., 0.]])
    """
    label = target[:, None]
    values, order = full_precision(logits).sort(dim=1, descending=True, stable=True)
    place = (order == label).to(torch.uint8).argmax(dim=1, keepdim=True)
    # Each class above the label gets the next smaller value, each below it keeps its own.
    above = torch.arange(order.shape[1], device=order.device) < place
    given = torch.where(above, values.roll(-1, dims=1), values)
    return torch.zeros_like(values).scatter(1, order, given).scatter(1, label, values[:, :1])


class SortedLogits(Strategy):
    """Sorted logits, a modifier: where the teacher is wrong, other strategies get its logits with the label moved to
    first place.

    Knowledge: the teacher's values and its order of the other classes, with the label first in every sample.

    Loss: none of its own. In soft+sort and the like, the terms of the other strategy see the teacher's logits, B x
    classes, with the largest value at the label and the other values in the order of the other classes; the student's
    logits and CE(student, labels) stay as they are.

    Cost: a sort of the teacher's logits; no adapters. Serves every pair whose logits have the same classes, and every
    strategy that compares logits; beside hard nothing is left of the teacher, whose best class is always the label.

    Differs from the paper: nothing. Under mixed labels the label is the class with the largest share.
    """

    name = "sort"
    family = "response"
    paper = Paper(
        title="Parameter-Free Logit Distillation via Sorting Mechanism",
        authors="Stephen Ekaputra Limantoro",
        year=2025,
        venue="IEEE Signal Processing Letters 2025",
        id="2508.16544",
        code="https://github.com/StephenEkaputra/SortKD",
    )
    signals = ("logits",)
    modifies = ("logits",)
    per_sample = True
    non_negative = True

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def modify(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs]:
        """The teacher's logits sorted, the student's as they are."""
        return student, Outputs({"logits": sort_logits(teacher.logits, labels_of(batch))})
