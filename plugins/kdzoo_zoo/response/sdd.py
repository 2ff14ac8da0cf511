"""SDD: the answers to parts of an image are matched, and count twice where they disagree with the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Classifier, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.distributions import divergence, labels_of
from kdzoo_zoo.tensors import check_same, full_precision, pool_to

_SOURCE = "authors' configs for CIFAR-100"

SCALES = (2, 4)
"""Cells along each side, beside the whole map."""


def scale_decoupled_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, complementary: float = 2.0
) -> Tensor:
    """Soft targets for the whole image and for its parts.

    Equation, with T = ``temperature``, y = ``target``, p_x = softmax(x_logits / T) over classes, x = s, t, and N
    columns, of which column 0 is the whole image's::

        w_bn = complementary where [argmax of teacher_logits_bn = y_b] differs from [argmax of teacher_logits_b0 = y_b],
               else 1
        loss = T^2 mean over b, n of w_bn KL(p_t(b, n) || p_s(b, n))

    Args:
        student_logits: B x classes x N.
        teacher_logits: B x classes x N. Not detached: pass it without gradient.
        target: B, int64, the labels.
        temperature: above 0; higher is softer.
        complementary: weight of a part of which the teacher is right and of the whole not, or the other way round.

    Returns:
        A scalar, at least 0: summed over classes, mean over batch and columns; 0 where the logits are equal.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision logits, else in the logits' own, under autocast too. No epsilon.

    Source: Wei, Luo, Luo, "Scaled Decoupled Distillation", CVPR 2024, arXiv 2403.13512. Authors' code:
    https://github.com/shicaiwei123/SDD-CVPR2024, which has the losses of DKD and NKD with the same weights as well.

    Example:
        The teacher gives 3/4 to class 0, the label, in the whole image, and 1/4 in its part, the student 1/2; both
        divergences are 0.1308, and that of the part counts twice:

        >>> import torch
        >>> student, teacher = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 1.0], [1.0, 3.0]]]).log()
        >>> scale_decoupled_loss(student, teacher, torch.tensor([0]), temperature=1.0)
        tensor(0.1962)
    """
    check_same("logits", student_logits, teacher_logits)
    # One row of classes for each part; a view where the classes already lie side by side in memory.
    student, teacher = (logits.movedim(1, -1).flatten(0, 1) for logits in (student_logits, teacher_logits))
    right = teacher.argmax(dim=1).view(len(target), -1) == target[:, None]
    apart = divergence(student, teacher, temperature, temperature).distance
    weights = 1 + (complementary - 1) * (right != right[:, :1]).to(apart.dtype)
    return temperature**2 * (weights * apart.view_as(weights)).mean()


class ScaleDecoupled(Strategy):
    """SDD: what each part of an image looks like is matched too, not only what the image as a whole does.

    Knowledge: the softened class probabilities of the image and of its parts: the cells of the last map (of the signal
    ``stages``), 2 x 2 and 4 x 4, each averaged and given to the network's own last layer (``classifier``).

    Loss: (1 - alpha) CE(student, labels) + alpha T^2 mean over samples and parts of w KL(p_t || p_s), w =
    ``complementary`` where the teacher is right of a part and wrong of the whole, or the other way round, else 1;
    logits B x classes for each part.

    Cost: the last layers of both networks on up to 20 cells of each sample; no adapters. Serves pairs whose heads are
    average pooling and one linear layer, on images large enough that the last maps have more than one position: without
    that, a cell has no answer. A scale that is finer than one of the maps is left out.

    Differs from the paper: nothing in the loss. Maps whose sides the cells do not divide are pooled to overlapping
    cells. The variants with the losses of DKD and NKD in each part are left out. Under mixed labels the label is the
    class with the largest share.
    """

    name = "sdd"
    family = "response"
    paper = Paper(
        title="Scaled Decoupled Distillation",
        authors="Shicai Wei, Chunbo Luo, Yang Luo",
        year=2024,
        venue="CVPR 2024",
        id="2403.13512",
        code="https://github.com/shicaiwei123/SDD-CVPR2024",
    )
    signals = ("logits", "stages", "classifier")
    per_sample = True
    non_negative = True

    temperature: float = param(
        4.0,
        "T, divides both networks' logits: higher is softer",
        gt=0.0,
        search=(1.0, 8.0),
        log=True,
        source=_SOURCE,
    )
    alpha: float = param(
        0.9, "weight of the teacher; hard labels get 1 - alpha", ge=0.0, le=1.0, search=(0.1, 1.0), source=_SOURCE
    )
    complementary: float = param(
        2.0, "weight of parts that disagree with the whole", ge=1.0, search=(1.0, 4.0), source=_SOURCE
    )

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    def build(self, setup: Setup) -> None:
        """Choose the scales."""
        check_classes(self.name, setup)
        for who, network in (("student", setup.student), ("teacher", setup.teacher)):
            if not network.head_pools:
                raise PairError(
                    f"sdd gives cells of the last map to the last layer, and the {who} has more than average pooling "
                    "between the two: take one whose head is pooling and a linear layer, such as a ResNet"
                )
        shapes = (setup.student.stages[-1], setup.teacher.stages[-1])
        side = min(min(shape.height, shape.width) for shape in shapes)
        self.scales = [scale for scale in SCALES if scale <= side]
        if not self.scales:
            raise PairError("sdd compares cells of the last maps, and one has a single position: raise --img-size")

    def reduce(self, teacher: Outputs) -> Outputs:
        """The cells of the last map, averaged."""
        fmap = full_precision(teacher.stages[-1])
        cells = tuple(pool_to(fmap, (scale, scale)) for scale in self.scales)
        return Outputs({"logits": teacher.logits, "cells": cells, "classifier": teacher.classifier})

    def reduction(self) -> dict[str, str | tuple[str, ...]]:
        """The logits, and each scale of the last map."""
        *before, last = self.setup.teacher.stages
        stage = f"stages.{len(before)}"
        sizes = [stage if (scale, scale) == last[1:] else f"{stage} pooled to {scale}x{scale}" for scale in self.scales]
        return {"logits": "logits", "cells": tuple(sizes)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``cells``."""
        fmap = full_precision(student.stages[-1])
        cells = [pool_to(fmap, (scale, scale)) for scale in self.scales]
        own = _answers(student.logits, cells, student.classifier)
        theirs = _answers(teacher.logits, teacher.values["cells"], teacher.classifier)
        loss = scale_decoupled_loss(own, theirs, labels_of(batch), self.temperature, self.complementary)
        return {"cells": self.alpha * loss}


def _answers(logits: Tensor, cells: list[Tensor] | tuple[Tensor, ...], classifier: Classifier) -> Tensor:
    """The logits of the image and of its cells, B x classes x N."""
    weight = full_precision(classifier.weight)
    bias = None if classifier.bias is None else full_precision(classifier.bias)
    with torch.autocast(logits.device.type, enabled=False):
        features = torch.cat([cell.flatten(2) for cell in cells], dim=2).transpose(1, 2).to(weight.dtype)
        parts = F.linear(features, weight, bias)
    return torch.cat([logits[:, None].to(parts.dtype), parts], dim=1).transpose(1, 2)
