"""Flow of the solution procedure: how one stage's channels go with the next one's matches the teacher."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, param
from kdzoo_zoo.adapters import ConvBatchNorm
from kdzoo_zoo.feature.phases import two_phases
from kdzoo_zoo.tensors import check_same, full_precision, pool_to, smaller_size


def flow_of_solution_loss(
    student_bottom: Tensor, student_top: Tensor, teacher_bottom: Tensor, teacher_top: Tensor
) -> Tensor:
    """Difference of the two networks' inner products between the channels of two of their stages.

    Equation, for each network, with the larger of bottom and top average-pooled to the size of the other::

        M_ij = 1/(h w) sum over positions of top_i bottom_j
        loss = mean over b, i, j of (M_ij of the student - M_ij of the teacher)^2

    Args:
        student_bottom: B x C x H x W, the map of a stage.
        student_top: B x C' x H' x W', the map of a deeper stage.
        teacher_bottom: B x C x any size. Not detached: pass it without gradient.
        teacher_top: B x C' x any size, likewise.

    Returns:
        A scalar, at least 0: the mean over the batch and both axes of channels; 0 where the maps are equal.

    Raises:
        ValueError: batch or channels differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
    Transfer Learning", CVPR 2017. No code by the authors. The paper max-pools where sizes differ, and sums over the
    channels; RepDistiller average-pools and takes the mean, as here. torchdistill max-pools and takes norms.

    Example:
        >>> bottom, top = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[3.0, 4.0]]]])
        >>> flow_of_solution_loss(bottom, top, bottom, 0 * top)
        tensor(30.2500)
    """
    check_same("channels of the lower maps", student_bottom, teacher_bottom, slice(2))
    check_same("channels of the upper maps", student_top, teacher_top, slice(2))
    return reduced_flow_loss(flow(student_bottom, student_top), flow(teacher_bottom, teacher_top))


def flow(bottom: Tensor, top: Tensor) -> Tensor:
    """The M of :func:`flow_of_solution_loss` for one network: B x C' x C."""
    check_same("batch", bottom, top, slice(1), of=("lower map", "upper map"))
    size = smaller_size(bottom, top)
    rows, columns = (pool_to(full_precision(each), size).flatten(2) for each in (top, bottom))
    with torch.autocast(rows.device.type, enabled=False):
        return (rows / rows.shape[2]) @ columns.mT


def reduced_flow_loss(student_flow: Tensor, teacher_flow: Tensor) -> Tensor:
    """:func:`flow_of_solution_loss` on what :func:`flow` gives of each network."""
    return F.mse_loss(student_flow, full_precision(teacher_flow))


class FlowOfSolution(Strategy):
    """Flow of the solution procedure: how the channels of consecutive stages go together matches the teacher.

    Knowledge: the inner products over positions of the channels of one stage with those of the next.

    Loss: in the first phase beta sum over consecutive paired stages of mean((M_s - M_t)^2), M the C' x C inner products
    of the maps, B x C x H x W, and no labels; then CE(student, labels) alone, from these weights.

    Cost: one product a stage, in the first phase only. Serves pairs whose paired stages have equal channels and of
    which there are two; with adapter=true others as well, by a 1x1 convolution with BatchNorm on each of the student's
    maps, which is trained with it.

    Differs from the paper: average instead of max pooling where sizes differ, the mean instead of the sum over
    channels, and all consecutive stages instead of chosen ones, as in RepDistiller, where the first phase has 30 of 240
    epochs beside the others. The adapter is kdzoo's.
    """

    name = "fsp"
    family = "feature"
    paper = Paper(
        title="A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning",
        authors="Junho Yim, Donggyu Joo, Jihoon Bae, Junmo Kim",
        year=2017,
        venue="CVPR 2017",
        id="10.1109/CVPR.2017.754",
    )
    signals = ("stages",)
    per_sample = True
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        1.0,
        "weight in the first phase",
        ge=0.0,
        search=(0.1, 100.0),
        log=True,
        in_paper=False,
        source="RepDistiller's first phase",
    )
    share: float = param(
        0.125,
        "share of the epochs that go to the first phase, at least one",
        gt=0.0,
        lt=1.0,
        search=(0.05, 0.5),
        in_paper=False,
        source="RepDistiller, CIFAR-100: 30 epochs beside 240",
    )
    adapter: bool = param(
        False, "bring the student's maps to the teacher's channels where they differ", in_paper=False, source="kdzoo"
    )

    def build(self, setup: Setup) -> None:
        """Check the channels, or make adapters for those that differ."""
        shapes = setup.paired_shapes()
        if len(shapes) < 2:
            raise PairError("fsp needs two paired stages, and these networks have fewer: choose other models")
        if not self.adapter and any(ours.channels != theirs.channels for ours, theirs in shapes):
            student, teacher = ([pair[role].channels for pair in shapes] for role in (0, 1))
            raise PairError(
                f"fsp needs equal channels in the paired stages, and the student has {student}, the teacher {teacher}: "
                f"set fsp.adapter=true, or choose another student"
            )
        self.adapters = nn.ModuleList(
            nn.Identity() if ours.channels == theirs.channels else ConvBatchNorm(ours.channels, theirs.channels)
            for ours, theirs in shapes
        )

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The first phase, then the main one."""
        flow_phase = Phase("flow", 1, hard_labels=False)
        return two_phases(self.name, self.share, epochs, flow_phase, Phase("main", 1, trains="student", teacher=False))

    def reduce(self, teacher: Outputs) -> Outputs:
        """The inner products of consecutive stages."""
        maps = [teacher.stages[t] for _, t in self.setup.stage_pairs]
        return Outputs({"flows": tuple(flow(*pair) for pair in pairwise(maps))})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """One text for each two consecutive stages."""
        stages = [t for _, t in self.setup.stage_pairs]
        pairs = pairwise(stages)
        return {"flows": tuple(f"stages.{upper} inner products with stages.{lower}" for lower, upper in pairs)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``flow``, in the first phase; none in the main one."""
        if batch.phase != "flow":
            return {}
        maps = [
            adapter(student.stages[s]) for adapter, (s, _) in zip(self.adapters, self.setup.stage_pairs, strict=True)
        ]
        losses = [
            reduced_flow_loss(flow(*pair), target)
            for pair, target in zip(pairwise(maps), teacher.values["flows"], strict=True)
        ]
        return {"flow": self.beta * torch.stack(losses).sum()}
