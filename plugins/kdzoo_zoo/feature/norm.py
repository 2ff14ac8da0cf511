"""NORM: the student's last map, made N times as wide as the teacher's, matches the teacher's N times over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.feature.layers import conv_norm, draw_by_width, pooled_text
from kdzoo_zoo.feature.step_cache import StepCache
from kdzoo_zoo.response.soft import soft_target_loss
from kdzoo_zoo.tensors import check_same, common_size, full_precision

SCALE = 2.5
"""Of normalised logits, in the authors' code."""


def many_to_one_loss(student_map: Tensor, teacher_map: Tensor, ratio: int) -> Tensor:
    """Squared differences of each of several blocks of the student's channels and the teacher's channels.

    Equation, with N = ``ratio`` and s_ij the j-th channel of the i-th block of C channels::

        loss = N mean over b, i, j, h, w of (s_ij - t_j)^2

    A teacher's map that is larger by a whole factor is max-pooled to the student's size.

    Args:
        student_map: B x N C x H x W.
        teacher_map: B x C x k H x l W, k and l whole numbers. Not detached: pass it without gradient.
        ratio: N, at least 1.

    Returns:
        A scalar, at least 0: N times the mean over all elements; 0 where every block equals the teacher's map.

    Raises:
        ValueError: the batches differ, the student has not N times the channels, or the teacher's size is no multiple.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Liu, Li, Li, Yao, "NORM: Knowledge Distillation via N-to-One Representation Matching", ICLR 2023, arXiv
    2305.13803. Authors' code: https://github.com/OSVAI/NORM, which repeats the teacher's map; here it is read N times.
    Their code for ImageNet pools the student's map.

    Example:
        >>> many_to_one_loss(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.zeros(1, 1, 1, 1), ratio=2)
        tensor(5.)
    """
    student, teacher = full_precision(student_map), full_precision(teacher_map)
    if student.shape[1] != ratio * teacher.shape[1]:
        raise ValueError(f"{student.shape[1]} channels of the student are not {ratio} x {teacher.shape[1]}")
    teacher = _max_pooled(teacher, student)
    blocks = torch.unflatten(student, 1, (ratio, -1))
    check_same("maps of a block", blocks[:, 0], teacher)
    return ratio * F.mse_loss(blocks, teacher[:, None].expand_as(blocks))


def _max_pooled(teacher: Tensor, student: Tensor) -> Tensor:
    """The teacher's map at the student's size, if it is larger by a whole factor."""
    size, larger = student.shape[-2:], teacher.shape[-2:]
    if size == larger or larger[0] % size[0] or larger[1] % size[1]:
        return teacher
    return F.max_pool2d(teacher, (larger[0] // size[0], larger[1] // size[1]))


def normalize_logits(logits: Tensor) -> Tensor:
    """Logits brought to mean 0 and variance 1 over the classes, times 2.5.

    Equation, with mean and variance (divided by K) of a row z of K logits::

        2.5 (z - mean) / sqrt(variance + 1e-7)

    Args:
        logits: B x K.

    Returns:
        B x K; a row of equal logits gives zeros.

    Precision: computed in float32 for half-precision logits, else in the logits' own. Epsilon 1e-7 on the variance.

    Source: the authors' code of NORM, see :func:`many_to_one_loss`; the paper does not tell of it.

    Example:
        >>> normalize_logits(torch.tensor([[1.0, 3.0]]))
        tensor([[-2.5000,  2.5000]])
    """
    return SCALE * F.layer_norm(full_precision(logits), logits.shape[-1:], eps=1e-7)


class ManyToOne(Strategy):
    """NORM: a layer after the student's last stage, N times as wide as the teacher's map, matches it N times over.

    Knowledge: the teacher's last map, element by element.

    Loss: ce CE(student, labels) + beta N mean((s_ij - t_j)^2) [+ kd soft target loss], s = E(x) the student's last
    stage after a 1x1 convolution with BatchNorm to N blocks of the teacher's channels, t the teacher's last stage.

    The student predicts by its classifier on the mean over positions of x + D(E(x)), D another 1x1 convolution with
    BatchNorm, back to the student's channels. E and D stay with the student, count among its parameters, and are linear
    once trained, so that they could be merged into its classifier. The logits of both networks are normalised to mean 0
    and standard deviation 2.5 before the loss of the labels, before soft targets, and when the student is measured.

    Cost: 2 N x student channels x teacher channels weights, applied to the last map. Serves students whose head is
    average pooling and one linear layer, and every teacher. The larger map is max-pooled to the smaller's size.

    Differs from the paper: the normalised logits are in the authors' code alone. That code also changes beta by steps
    in the course of the training (0.1, 0.5, 1, 0.5 and 0.1 times, from epochs 0, 10, 20, 180 and 210 of 240 on), which
    is left out.
    """

    name = "norm"
    family = "feature"
    paper = Paper(
        title="NORM: Knowledge Distillation via N-to-One Representation Matching",
        authors="Xiaolong Liu, Lujun Li, Chao Li, Anbang Yao",
        year=2023,
        venue="ICLR 2023",
        id="2305.13803",
        code="https://github.com/OSVAI/NORM",
    )
    signals = ("stages", "classifier")
    teacher_signals = ("stages", "logits")
    deployed = ("expand", "contract")
    per_sample = True
    non_negative = True

    beta: float = param(1.0, "weight of the maps", ge=0.0, search=(0.01, 10.0), log=True, source="the authors' scripts")
    ratio: int = param(8, "N, how often the teacher's map is matched", ge=1, le=64, source="the authors' scripts")
    ce: float = param(
        1.0,
        "weight of the hard labels",
        gt=0.0,
        search=(0.0625, 1.0),
        log=True,
        source="the authors' scripts: 1/16 to 1 by pair on CIFAR-100, 1 on ImageNet",
    )
    kd: float = param(
        0.0, "weight of soft targets from the normalised logits", ge=0.0, source="an option of the authors' scripts"
    )
    temperature: float = param(4.0, "T of the soft targets", gt=0.0, source="the authors' scripts")

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """ce."""
        return self.ce

    def build(self, setup: Setup) -> None:
        """Make the layers between the student's last stage and its head."""
        if not setup.student.head_pools:
            raise PairError(
                "norm puts layers between the student's last map and its head, which must be average pooling and one "
                "linear layer: choose a student such as a ResNet, DenseNet or RegNet"
            )
        if not setup.teacher.stages:
            raise PairError("norm needs a map of the teacher, and it has none: choose another teacher")
        if self.kd:
            check_classes(self.name, setup, "set norm.kd=0")
        student, teacher = setup.student.stages[-1], setup.teacher.stages[-1]
        self.size = common_size(student, teacher)
        self.expand = conv_norm(student.channels, self.ratio * teacher.channels)
        self.contract = conv_norm(self.ratio * teacher.channels, student.channels)
        for part in (self.expand, self.contract):
            draw_by_width(part.weight)
        self._cache: StepCache[tuple[Tensor, Tensor]] = StepCache()

    def reduce(self, teacher: Outputs) -> Outputs:
        """The last stage at the size at which it is compared, and the logits where they are needed."""
        logits = {"logits": teacher.logits} if self.kd else {}
        return Outputs({"stages": (self._at_size(teacher.stages[-1]),)} | logits)

    def reduction(self) -> dict[str, str | tuple[str, ...]]:
        """The stage, the size if it is pooled, and the logits where they are needed."""
        text = pooled_text(self.setup.teacher, len(self.setup.teacher.stages) - 1, self.size, "max-pooled")
        return {"stages": (text,), "logits": "logits"} if self.kd else {"stages": (text,)}

    def _at_size(self, fmap: Tensor) -> Tensor:
        return fmap if fmap.shape[-2:] == self.size else F.adaptive_max_pool2d(full_precision(fmap), self.size)

    def predict(self, student: Outputs) -> Tensor:
        """The normalised logits of the student with its two layers more."""
        found = self._through(student)
        if self.training:
            self._cache.keep(student.stages[-1], found)
        return found[1]

    def _through(self, student: Outputs) -> tuple[Tensor, Tensor]:
        """The map that is matched, and the normalised logits."""
        last = student.stages[-1]
        matched = self.expand(last)
        embedding = (last + self.contract(matched)).mean(dim=(2, 3))
        weight, bias = student.classifier
        bias = None if bias is None else full_precision(bias)
        with torch.autocast(embedding.device.type, enabled=False):
            logits = F.linear(full_precision(embedding), full_precision(weight), bias)
        return matched, normalize_logits(logits)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The term ``maps``, and ``soft`` where there are soft targets."""
        matched, logits = self._cache.take(student.stages[-1]) or self._through(student)
        terms = {"maps": self.beta * many_to_one_loss(self._at_size(matched), teacher.stages[0], self.ratio)}
        if self.kd:
            taught = normalize_logits(teacher.logits)
            terms["soft"] = self.kd * soft_target_loss(logits, taught, self.temperature)
        return terms
