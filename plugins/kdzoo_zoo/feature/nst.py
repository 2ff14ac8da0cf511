"""Neuron selectivity transfer: channels of two networks answer to the same regions. In the smaller of two forms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.stages import deepest_pairs
from kdzoo_zoo.gram import gram
from kdzoo_zoo.tensors import check_same, full_precision, pool_to, smaller_size


def neuron_selectivity_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the channels of two feature maps, kernel k(x, y) = (x . y)^2.

    Equation, with s_i the i-th of C channels of ``student_map``, t_j the j-th of C' channels of ``teacher_map``, each
    flattened to h w positions and divided by its length::

        loss = mean over b of  1/C^2 sum_ij (s_i . s_j)^2 + 1/C'^2 sum_ij (t_i . t_j)^2 - 2/(C C') sum_ij (s_i . t_j)^2

    The kernel matrices have C^2 + C'^2 + C C' entries for each sample. But sum_ij (s_i . t_j)^2 is the inner product of
    S'S and T'T, matrices of positions, so that the loss is the squared length of S'S / C - T'T / C'. That form is taken
    where its matrices are smaller, as those of deep stages are: value and gradient are the same.

    Args:
        student_map: B x C x H x W.
        teacher_map: B x C' x H' x W', any channels and size; the larger one is average-pooled. Not detached.

    Returns:
        A scalar, at least 0 up to rounding; 0 where the maps are equal.

    Raises:
        ValueError: the batches differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. Epsilon 1e-12 on
    the lengths.

    Source: Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, arXiv
    1707.01219, with its polynomial kernel of degree 2 and offset 0. The paper interpolates where sizes differ; here the
    larger map is pooled. The mean over the batch is that of RepDistiller.

    Example:
        >>> neuron_selectivity_loss(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[4.0, 3.0]]]]))
        tensor(0.1568)
    """
    check_same("batch", student_map, teacher_map, slice(1))
    size = smaller_size(student_map, teacher_map)
    by_positions = fewer_positions(size, student_map.shape[1], teacher_map.shape[1])
    return reduced_selectivity_loss(
        student_map, reduce_selectivity(teacher_map, size, by_positions), size, by_positions
    )


def fewer_positions(size: tuple[int, int], ours: int, theirs: int) -> bool:
    """Whether matrices of positions are smaller than those of channels, with so many channels of the two networks."""
    return (size[0] * size[1]) ** 2 <= ours**2 + theirs**2 + ours * theirs


def reduce_selectivity(teacher_map: Tensor, size: tuple[int, int], by_positions: bool) -> Tensor:
    """What :func:`reduced_selectivity_loss` needs of the teacher.

    Args:
        teacher_map: B x C x H x W, at least of that size.
        size: h, w, at which maps are compared.
        by_positions: which of the two forms is taken.

    Returns:
        B x hw x hw, the T'T / C' of :func:`neuron_selectivity_loss`; or its channels of length 1, B x C x hw.
    """
    channels = _unit_channels(teacher_map, size)
    return gram(channels.mT) / channels.shape[1] if by_positions else channels


def reduced_selectivity_loss(student_map: Tensor, reduced: Tensor, size: tuple[int, int], by_positions: bool) -> Tensor:
    """:func:`neuron_selectivity_loss` on what :func:`reduce_selectivity` gives of the teacher."""
    student, reduced = _unit_channels(student_map, size), full_precision(reduced)
    if by_positions:
        return (gram(student.mT) / student.shape[1] - reduced).square().sum() / len(student)
    kernels = [(student, student), (reduced, reduced), (student, reduced)]
    own, theirs, across = (_KernelMean.apply(first, second) for first, second in kernels)
    loss: Tensor = own + theirs - 2 * across
    return loss


class _KernelMean(torch.autograd.Function):
    """The mean over samples and pairs of channels of (x . y)^2, with 2 (X Y') Y as the gradient of the sum by X.

    Autograd would take a product more where both are the same, and a copy of each kernel matrix.
    """

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            products = first @ second.mT
        ctx.save_for_backward(first, second, products)
        ctx.same = first is second
        return products.square().mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        first, second, products = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph, what follows is differentiated again
            products = first @ second.mT
        scale = 2 * gradient / products.numel()
        with torch.autocast(first.device.type, enabled=False):
            if ctx.same:
                return 2 * scale * (products @ second), None
            by_first = scale * (products @ second) if ctx.needs_input_grad[0] else None
            by_second = scale * (products.mT @ first) if ctx.needs_input_grad[1] else None
        return by_first, by_second


def _unit_channels(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.normalize(pool_to(full_precision(x), size).flatten(2), dim=2, eps=1e-12)


class NeuronSelectivity(Strategy):
    """Neuron selectivity transfer: the channels of both networks answer to the same regions.

    Knowledge: the distribution of a stage's channels, each scaled to length 1 over its positions, whatever their number
    and order.

    Loss: CE(student, labels) + beta sum over the compared stages of the squared maximum mean discrepancy between the
    channels of the maps, B x C x H x W, with the kernel (x . y)^2; the larger map is average-pooled to the smaller.

    Cost: products of channels or of positions, whichever are fewer; no adapters. Serves every pair that has a paired
    stage with more than one position; a stage whose common size is 1x1 is left out, as it would add nothing.

    Differs from the paper: pooling instead of interpolation where sizes differ. The paper compares the last stage
    (last=1); RepDistiller, whose weight this is, all stages behind the first convolution. Of networks with more than
    four paired stages the deepest four are taken, which leaves out the stem of a ResNet, as RepDistiller does; last=0
    takes all.
    """

    name = "nst"
    family = "feature"
    paper = Paper(
        title="Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
        authors="Zehao Huang, Naiyan Wang",
        year=2017,
        venue="arXiv",
        id="1707.01219",
        code="https://github.com/TuSimple/neuron-selectivity-transfer",
    )
    signals = ("stages",)
    per_sample = True
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        50.0,
        "weight of the sum over stages",
        ge=0.0,
        search=(1.0, 500.0),
        log=True,
        in_paper=False,
        source="RepDistiller, CIFAR-100; AberHu's zoo has 10, of the last stage",
    )
    last: int = param(
        4,
        "how many of the deepest paired stages count, if there are as many; 0: all",
        ge=0,
        source="kdzoo: leaves out the stem of a ResNet, as RepDistiller does",
    )

    def build(self, setup: Setup) -> None:
        """Choose the stages, and for each the smaller form."""
        self.compared = [
            (s, t, size, fewer_positions(size, ours.channels, theirs.channels))
            for s, t, ours, theirs, size in deepest_pairs(self.name, setup, self.last, positions=2)
        ]

    def reduce(self, teacher: Outputs) -> Outputs:
        """Channels of length 1, or the inner products of their positions, at the common sizes."""
        reduced = (reduce_selectivity(teacher.stages[t], size, form) for _, t, size, form in self.compared)
        return Outputs({"stages": tuple(reduced)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """One text for each compared stage."""
        forms = {True: "products of positions of unit channels", False: "unit channels"}
        texts = (f"stages.{t} {forms[form]} {size[0]}x{size[1]}" for _, t, size, form in self.compared)
        return {"stages": tuple(texts)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``selectivity``."""
        losses = [
            reduced_selectivity_loss(student.stages[s], reduced, size, form)
            for (s, _, size, form), reduced in zip(self.compared, teacher.stages, strict=True)
        ]
        return {"selectivity": self.beta * torch.stack(losses).sum()}
