"""OFD: the student's maps before the last ReLU of each stage follow the teacher's, but for what the ReLU takes away."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.adapters import ConvBatchNorm
from kdzoo_zoo.feature.preactivations import normalised_pairs
from kdzoo_zoo.tensors import check_same, common_size, full_precision, pool_to

_LEAST = 0.001
"""Below this share of negative values, their mean is replaced by three standard deviations."""


def partial_l2_loss(student_map: Tensor, teacher_map: Tensor, margin: Tensor) -> Tensor:
    """Squared difference before the ReLU, without what the ReLU makes equal.

    Equation::

        t' = max(t, margin)
        loss = mean over b of sum over c, h, w of (s - t')^2 where s > t' or t > 0, else 0

    Where the teacher's value is negative, and so cut away by its ReLU, the student need only be at or below t'.

    Args:
        student_map: s, B x C x H x W, before the activation, brought to the teacher's channels.
        teacher_map: t, B x C x H x W, before the activation. Not detached: pass it without gradient.
        margin: 1 x C x 1 x 1, negative; see :func:`batch_norm_margin`.

    Returns:
        A scalar, at least 0: summed over channels and positions, averaged over the batch; 0 where the maps are equal.

    Raises:
        ValueError: the maps differ in shape, or the margin does not fit them.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Heo, Kim, Yun, Park, Kwak, Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019, arXiv
    1904.01866. Authors' code: https://github.com/clovaai/overhaul-distillation, which gives the sum over the batch and
    divides it by the batch size outside.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[[2.0, -3.0, 0.0]]]])
        >>> teacher = torch.tensor([[[[1.0, -2.0, -5.0]]]])
        >>> partial_l2_loss(student, teacher, torch.tensor([[[[-1.0]]]]))  # 1 above 1; below -1; 1 above -1
        tensor(2.)
    """
    check_same("maps", student_map, teacher_map)
    if margin.shape != (1, student_map.shape[1], 1, 1):
        raise ValueError(f"the margin has the shape {tuple(margin.shape)}, and must be 1 x C x 1 x 1")
    teacher_map = full_precision(teacher_map)
    target = torch.maximum(teacher_map, full_precision(margin))
    loss: Tensor = _PartialSquares.apply(full_precision(student_map), target, teacher_map > 0)
    return loss / len(student_map)


class _PartialSquares(torch.autograd.Function):
    """Sum of (s - t)^2 where s > t or where it counts anyhow; it keeps one map for the way back, and no mask."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, target: Tensor, anyhow: Tensor) -> Tensor:
        distance = student - target
        distance.mul_((distance > 0).logical_or_(anyhow))
        ctx.save_for_backward(distance)
        return distance.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (distance,) = ctx.saved_tensors
        needs_student, needs_target, _ = ctx.needs_input_grad
        slope = distance * (2 * gradient)
        return slope if needs_student else None, -slope if needs_target else None, None


def batch_norm_margin(weight: Tensor, bias: Tensor) -> Tensor:
    """The mean of the negative values that a batch normalisation gives, if what it gives is normal.

    Equation::

        z = bias / |weight|,  c = Phi(-z)
        margin = bias - |weight| phi(z) / c   where c > 0.001, else -3 |weight|

    with phi and Phi the density and the distribution function of the standard normal: the mean of a normal(bias,
    weight^2), given that it is negative.

    Args:
        weight: C values, of either sign.
        bias: C values.

    Returns:
        C values, not above 0.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half precisions, else in the values' own. No epsilon: a weight of 0 gives the
    bias where that is negative, else 0.

    Source: Heo et al., ICCV 2019, arXiv 1904.01866, section 3.2. Authors' code:
    https://github.com/clovaai/overhaul-distillation.

    Example:
        >>> import torch
        >>> batch_norm_margin(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 8.0]))  # -sqrt(2 / pi); seldom negative
        tensor([-0.7979, -6.0000])
    """
    check_same("shapes", weight, bias, of=("weight", "bias"))
    scale, bias = full_precision(weight).abs(), full_precision(bias)
    z = bias / scale
    share = torch.special.ndtr(-z)
    mean = bias - scale * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) / share
    return torch.where(share > _LEAST, mean, -3 * scale)


class Overhaul(Strategy):
    """Feature distillation, overhauled: maps before the ReLU, a margin in the place of its zeros, a partial distance.

    Knowledge: each stage's map before its last activation: what is positive by value, what is negative only as being
    so.

    Loss: CE(student, labels) + beta sum over the compared stages i = 0 .. n-1 of 2^-(n-1-i) times the mean over the
    batch of the sum over c, h, w of (s - t')^2 where s > t' or t > 0, t' = max(t, m). s is the student's map through a
    1x1 convolution and BatchNorm, t the teacher's, the larger average-pooled to the smaller. m is one negative number
    per channel: the mean of the negative values behind the teacher's BatchNorm before the activation, if they are
    normal.

    Cost: an adapter of student channels x teacher channels per stage. Serves teachers of which at least one paired
    stage ends in BatchNorm and an activation, as in ResNet, RegNet and VGG with BatchNorm; other stages are left out. A
    sum of several normalised branches (RepVGG), squeeze-excite behind the last BatchNorm, linear bottlenecks
    (MobileNetV2) and transformers have no such BatchNorm, and their pairs are refused. Any student: a stage that does
    not end in an activation uses its output map.

    Differs from the paper: pooling where sizes differ (the authors need equal sizes). The teacher is in eval mode; in
    the authors' code its BatchNorm is in train mode in effect. In residual networks the margin is that of the last
    BatchNorm of the block, without the shortcut, as in the authors' code. The first stage is the stem's where the
    network gives it a map; its weight is the smallest.
    """

    name = "ofd"
    family = "feature"
    paper = Paper(
        title="A Comprehensive Overhaul of Feature Distillation",
        authors="Byeongho Heo, Jeesoo Kim, Sangdoo Yun, Hyojin Park, Nojun Kwak, Jin Young Choi",
        year=2019,
        venue="ICCV 2019",
        id="1904.01866",
        code="https://github.com/clovaai/overhaul-distillation",
    )
    signals = ("pre_stages",)
    per_sample = True
    non_negative = True

    beta: float = param(
        1e-3,
        "weight of the sum over stages",
        imagenet=1e-4,
        source="authors' code: CIFAR-100 and ImageNet",
        ge=0.0,
        search=(1e-5, 1e-2),
        log=True,
    )

    def build(self, setup: Setup) -> None:
        """Choose the stages, make their adapters, and find the margins."""
        found = normalised_pairs(setup)
        self.compared = [(s, t) for s, t, _ in found]
        if not self.compared:
            raise PairError(
                "ofd needs the teacher's batch normalisation before the last activation of a stage, and this teacher "
                "has none there: choose one such as a ResNet"
            )
        self.adapters, self.sizes = nn.ModuleList(), []
        for place, (s, t, norm) in enumerate(found):
            student, teacher = setup.student.stages[s], setup.teacher.stages[t]
            adapter = ConvBatchNorm(student.channels, teacher.channels)
            nn.init.normal_(adapter.conv.weight, std=math.sqrt(2 / teacher.channels))
            self.adapters.append(adapter)
            self.sizes.append(common_size(student, teacher))
            self.register_buffer(f"margin{place}", batch_norm_margin(*norm).view(1, -1, 1, 1))

    def reduce(self, teacher: Outputs) -> Outputs:
        """The maps of the compared stages, at the common sizes."""
        maps = (teacher.pre_stages[t] for _, t in self.compared)
        return Outputs({"pre_stages": tuple(map(_pooled, maps, self.sizes))})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """One text for each compared stage, with its size where it is pooled."""
        texts = []
        for (_, t), size in zip(self.compared, self.sizes, strict=True):
            whole = size == self.setup.teacher.stages[t][1:]
            texts.append(f"pre_stages.{t}" if whole else f"pre_stages.{t} pooled to {size[0]}x{size[1]}")
        return {"pre_stages": tuple(texts)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``partial``."""
        losses = []
        for place, ((s, _), target) in enumerate(zip(self.compared, teacher.pre_stages, strict=True)):
            own = _pooled(self.adapters[place](student.pre_stages[s]), self.sizes[place])
            loss = partial_l2_loss(own, target, self.get_buffer(f"margin{place}"))
            losses.append(loss * 2.0 ** (place + 1 - len(self.compared)))
        return {"partial": self.beta * torch.stack(losses).sum()}


def _pooled(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else pool_to(full_precision(x), size)
