"""Attention transfer: the student looks where the teacher looks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.tensors import check_same, common_size, full_precision, pool_to, smaller_size


def attention_map(feature_map: Tensor, power: float = 2) -> Tensor:
    """Where a feature map is strong, as a unit vector over its positions.

    Equation, with F = ``feature_map`` and p = ``power``::

        a = mean over c of |F|^p, flattened over h, w
        attention = a / max(||a||_2, 1e-12)

    Args:
        feature_map: B x C x H x W.
        power: at least 1; higher looks at the strongest positions only.

    Returns:
        B x HW, every row of length 1 (a map of zeros gives zeros; a 1x1 map has one position, of value 1).

    Precision: computed in float32 for half-precision maps, else in the map's own, under autocast too. Epsilon 1e-12 on
    the length.

    Source: Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional
    Neural Networks via Attention Transfer", ICLR 2017, arXiv 1612.03928. Authors' code:
    https://github.com/szagoruyko/attention-transfer. The paper sums over channels, its code takes the mean; after
    normalisation they are the same.

    Example:
        >>> attention_map(torch.tensor([[[[3.0, -4.0]]]]), power=1)
        tensor([[0.6000, 0.8000]])
    """
    wide = full_precision(feature_map)
    if power == 2:
        # The same as below, with a gradient in the map's own memory format, which the backward pass of the network
        # before it needs, and without a map of absolute values. Autocast would round it.
        with torch.autocast(wide.device.type, enabled=False):
            strength = torch.linalg.vecdot(wide, wide, dim=1) / wide.shape[1]
    else:
        strength = wide.abs().pow(power).mean(dim=1)
    return F.normalize(strength.flatten(1), dim=1, eps=1e-12)


def reduce_attention(teacher_map: Tensor, size: tuple[int, int], power: float = 2) -> Tensor:
    """What :func:`attention_loss` needs of the teacher: its attention at the size at which maps are compared.

    Args:
        teacher_map: B x C x H x W, at least of that size.
        size: h, w.
        power: see :func:`attention_map`.

    Returns:
        B x hw.
    """
    return attention_map(pool_to(full_precision(teacher_map), size), power)


def attention_loss(student_map: Tensor, reduced: Tensor, size: tuple[int, int], power: float = 2) -> Tensor:
    """:func:`attention_transfer_loss` on what :func:`reduce_attention` gives of the teacher, B x hw."""
    attention = attention_map(pool_to(full_precision(student_map), size), power)
    check_same("batch", attention, reduced, slice(1))
    return F.mse_loss(attention, reduced)


def attention_transfer_loss(student_map: Tensor, teacher_map: Tensor, power: float = 2) -> Tensor:
    """Squared difference of two networks' attention maps.

    Equation::

        s, t = student_map, teacher_map average-pooled to the smaller height and width of the two
        loss = mean over b and positions of (attention_map(s, power) - attention_map(t, power))^2

    Args:
        student_map: B x C x H x W.
        teacher_map: B x C' x H' x W', any channels and size. Not detached: pass it without gradient.
        power: see :func:`attention_map`.

    Returns:
        A scalar, at least 0: the mean over batch and positions; 0 where the maps are equal, and for 1x1 maps.

    Raises:
        ValueError: the batches differ.

    Precision: that of :func:`attention_map`, and its epsilon; pooling is done in the same precision.

    Source: see :func:`attention_map`. The paper's formula is the length of the difference, its code the mean square,
    which is taken here; where the sizes differ the paper interpolates, here the larger map is pooled.

    Example:
        >>> attention_transfer_loss(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[4.0, 3.0]]]]), power=1)
        tensor(0.0400)
    """
    size = smaller_size(student_map, teacher_map)
    return attention_loss(student_map, reduce_attention(teacher_map, size, power), size, power)


class AttentionTransfer(Strategy):
    """Attention transfer: at every paired stage, the student's spatial attention matches the teacher's.

    Knowledge: where each stage's map is strong, whatever its channels; each map is reduced to a unit vector over its
    positions.

    Loss: CE(student, labels) + beta sum over paired stages of mean((a_s - a_t)^2), a = |F|^power averaged over
    channels and L2-normalised, the larger map average-pooled to the smaller.

    Cost: one pass over the maps; no adapters, unequal channels need none. Serves every pair that has a paired stage
    with more than one position; a stage whose common size is 1x1 is left out, as it would add nothing.

    Differs from the paper: pooling instead of interpolation where sizes differ. The loss and beta follow the authors'
    code.
    """

    name = "at"
    family = "attention"
    paper = Paper(
        title="Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via "
        "Attention Transfer",
        authors="Sergey Zagoruyko, Nikos Komodakis",
        year=2017,
        venue="ICLR 2017",
        id="1612.03928",
        code="https://github.com/szagoruyko/attention-transfer",
    )
    signals = ("stages",)
    per_sample = True
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        1000.0,
        "weight of the sum over stages",
        ge=0.0,
        search=(1.0, 10000.0),
        log=True,
        source="RepDistiller and mdistiller, CIFAR-100",
    )
    power: float = param(
        2.0,
        "exponent of the activations: higher looks at peaks",
        ge=1.0,
        le=8.0,
        search=(1.0, 4.0),
        source="RepDistiller and mdistiller",
    )

    def build(self, setup: Setup) -> None:
        """Check that there is a stage to match."""
        if not setup.stage_pairs:
            raise PairError("at needs a paired stage, and this teacher and student have none: choose other models")
        sizes = [common_size(s, t) for s, t in setup.paired_shapes()]
        # A map of one position is 1 after normalisation, whatever it was, or has vanished.
        self.compared = [(*pair, size) for pair, size in zip(setup.stage_pairs, sizes, strict=True) if size != (1, 1)]
        if not self.compared:
            raise PairError(
                "at compares positions, and every paired stage has a single one: choose a larger --img-size, or a "
                "smaller patch_size of a transformer"
            )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The attention maps of the compared stages, at the common sizes."""
        return Outputs(
            {"stages": tuple(reduce_attention(teacher.stages[t], size, self.power) for _, t, size in self.compared)}
        )

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """One text for each compared stage."""
        return {
            "stages": tuple(
                f"stages.{t} attention {size[0]}x{size[1]} power {self.power!r}" for _, t, size in self.compared
            )
        }

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``attention``."""
        losses = [
            attention_loss(student.stages[s], attention, size, self.power)
            for (s, _, size), attention in zip(self.compared, teacher.stages, strict=True)
        ]
        return {"attention": self.beta * torch.stack(losses).sum()}
