"""AB: before it trains, the student learns at which inputs the teacher's neurons are active."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, UsageError, param
from kdzoo_zoo.adapters import ConvBatchNorm
from kdzoo_zoo.feature.preactivations import activated_pairs
from kdzoo_zoo.tensors import check_same, common_size, full_precision, pool_to


def reduce_boundary(teacher_map: Tensor, size: tuple[int, int]) -> Tensor:
    """What :func:`reduced_boundary_loss` needs of the teacher: which of its neurons are active.

    Args:
        teacher_map: B x C x H x W, before the activation.
        size: h, w, to which a larger map is average-pooled.

    Returns:
        B x C x h x w, bool.
    """
    return _pooled(teacher_map, size) > 0


def reduced_boundary_loss(student_map: Tensor, active: Tensor, margin: float) -> Tensor:
    """:func:`activation_boundary_loss` on what :func:`reduce_boundary` gives of the teacher."""
    check_same("maps", student_map, active)
    student_map = full_precision(student_map)
    side = active.to(student_map.dtype).mul_(2).sub_(1)
    return torch.relu(margin - side * student_map).square().sum() / len(student_map)


def activation_boundary_loss(student_map: Tensor, teacher_map: Tensor, margin: float) -> Tensor:
    """How far the student's neurons are from being as active as the teacher's, by a squared hinge.

    Equation::

        loss = mean over b of sum over c, h, w of
            (s + margin)^2 where t <= 0 and s > -margin
            (s - margin)^2 where t > 0 and s <= margin
            0 elsewhere

    Args:
        student_map: s, B x C x H x W, before the activation, brought to the teacher's channels.
        teacher_map: t, B x C x H x W, before the activation; only its signs count, so that its gradient is 0.
        margin: by how much the student is to be on the teacher's side.

    Returns:
        A scalar, at least 0: summed over channels and positions, averaged over the batch.

    Raises:
        ValueError: the maps differ in shape.

    Precision: computed in float32 for a half-precision student, else in its own, under autocast too. No epsilon.

    Source: Heo, Lee, Yun, Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
    Neurons", AAAI 2019, arXiv 1811.03233. Authors' code: https://github.com/bhheo/AB_distillation, which gives the sum
    over the batch and divides it outside. The paper averages over neither channels nor positions.

    Example:
        >>> import torch
        >>> student = torch.tensor([[[[0.5, 0.5, 2.0, -3.0]]]])
        >>> teacher = torch.tensor([[[[4.0, -0.1, 1.0, -1.0]]]])
        >>> activation_boundary_loss(student, teacher, margin=1.0)  # 0.5^2 + 1.5^2 + 0 + 0
        tensor(2.5000)
    """
    check_same("maps", student_map, teacher_map)
    return reduced_boundary_loss(student_map, teacher_map > 0, margin)


class ActivationBoundaries(Strategy):
    """Activation boundaries: in a first phase, the student's neurons become active where the teacher's are.

    Knowledge: of each stage's map before its last activation, the sign.

    Loss: in the first phase, gamma sum over the compared stages of w activation_boundary_loss, with w = 1 for the
    deepest, 1/2 for the one before, and so on; it trains the student and the adapters. Then CE(student, labels) trains
    the student alone, from there. Maps before the activation, B x C x H x W: the student's through a 1x1 convolution
    and BatchNorm where the shapes differ, the larger average-pooled to the smaller; the teacher's by their signs.

    Cost: an adapter of student channels x teacher channels per stage, in the first phase; in the second one no teacher
    runs. Serves teachers of which at least one paired stage ends in an activation; other stages are left out. Any
    student: a stage that does not end in an activation uses its output map.

    Differs from the paper: pooling where sizes differ. The main phase is on labels alone, while the authors distil from
    soft targets then: combine it with soft for that.
    """

    name = "ab"
    family = "feature"
    paper = Paper(
        title="Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
        authors="Byeongho Heo, Minsik Lee, Sangdoo Yun, Jin Young Choi",
        year=2019,
        venue="AAAI 2019",
        id="1811.03233",
        code="https://github.com/bhheo/AB_distillation",
    )
    signals = ("pre_stages",)
    per_sample = True
    non_negative = True

    gamma: float = param(
        3e-3, "weight of the sum over stages", source="authors' code", ge=0.0, search=(1e-4, 0.1), log=True
    )
    margin: float = param(1.0, "margin of the hinge", source="authors' code", gt=0.0, search=(0.1, 3.0))
    share: float = param(
        30 / 270,
        "share of the epochs in which the boundaries are learned, at least one epoch",
        source="RepDistiller: 30 epochs before 240",
        in_paper=False,
        gt=0.0,
        lt=1.0,
        search=(0.05, 0.5),
    )

    def build(self, setup: Setup) -> None:
        """Choose the stages and make their adapters."""
        self.compared = [(s, t) for s, t, _ in activated_pairs(setup)]
        if not self.compared:
            raise PairError(
                "ab needs a teacher of which a stage ends in an activation, and no paired stage of this one does: "
                "choose one such as a ResNet"
            )
        self.adapters, self.sizes = nn.ModuleList(), []
        for s, t in self.compared:
            student, teacher = setup.student.stages[s], setup.teacher.stages[t]
            same = student == teacher
            self.adapters.append(nn.Identity() if same else ConvBatchNorm(student.channels, teacher.channels))
            self.sizes.append(common_size(student, teacher))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The boundaries, then the labels."""
        first = max(1, round(self.share * epochs))
        if first >= epochs:
            raise UsageError(f"ab.share is {self.share}, which leaves no epoch of {epochs} for the labels: lower it")
        return (
            Phase("boundaries", first, hard_labels=False),
            Phase("main", epochs - first, trains="student", teacher=False),
        )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The signs of the compared stages' maps, at the common sizes."""
        maps = (teacher.pre_stages[t] for _, t in self.compared)
        return Outputs({"active": tuple(map(reduce_boundary, maps, self.sizes))})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """One text for each compared stage."""
        pairs = zip(self.compared, self.sizes, strict=True)
        return {"active": tuple(f"pre_stages.{t} pooled to {size[0]}x{size[1]}, above 0" for (_, t), size in pairs)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``boundary``; none in the main phase."""
        if batch.phase == "main":
            return {}
        losses = []
        for place, ((s, _), active) in enumerate(zip(self.compared, teacher.values["active"], strict=True)):
            own = _pooled(self.adapters[place](student.pre_stages[s]), self.sizes[place])
            loss = reduced_boundary_loss(own, active, self.margin)
            losses.append(loss * 2.0 ** (place + 1 - len(self.compared)))
        return {"boundary": self.gamma * torch.stack(losses).sum()}


def _pooled(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[-2:] == size else pool_to(full_precision(x), size)
