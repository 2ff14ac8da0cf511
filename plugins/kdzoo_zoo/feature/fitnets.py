"""FitNets: the student's map at one stage, through an adapter, matches the teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, UsageError, param
from kdzoo_zoo.adapters import ConvBatchNorm
from kdzoo_zoo.tensors import check_same, common_size, full_precision, in_memory_order, pool_to, smaller_size


def reduce_hint(teacher_map: Tensor, size: tuple[int, int]) -> Tensor:
    """What :func:`reduced_hint_loss` needs of the teacher: the map, average-pooled where it is larger than the size.

    Args:
        teacher_map: B x C x H x W.
        size: h, w, at which maps are compared.

    Returns:
        B x C x h x w; pooled in at least float32, else the map as it is.
    """
    return teacher_map if teacher_map.shape[-2:] == size else pool_to(full_precision(teacher_map), size)


def reduced_hint_loss(student_map: Tensor, reduced: Tensor) -> Tensor:
    """:func:`hint_loss` on what :func:`reduce_hint` gives of the teacher, B x C x h x w."""
    check_same("batch and channels", student_map, reduced, slice(2))
    height, width = reduced.shape[-2:]
    student_map = pool_to(full_precision(student_map), (height, width))
    return F.mse_loss(*in_memory_order(student_map, full_precision(reduced)))


def hint_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the student's (adapted) map and the teacher's, the hint.

    Equation::

        s, t = student_map, teacher_map average-pooled to the smaller height and width of the two
        loss = mean over b, c, h, w of (s - t)^2

    Args:
        student_map: B x C x H x W, already brought to the teacher's channels by an adapter.
        teacher_map: B x C x H' x W'. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all elements; 0 where the maps are equal.

    Raises:
        ValueError: batch or channels differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Romero, Ballas, Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv
    1412.6550. Authors' code: https://github.com/adri-romsor/FitNets. The paper sums half the squared differences, and
    its regressor's kernel makes the sizes equal; here the mean keeps one weight usable for maps of any size, and
    pooling serves any two sizes.

    Example:
        >>> import torch
        >>> hint_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 4, 4), 3.0))
        tensor(9.)
    """
    return reduced_hint_loss(student_map, reduce_hint(teacher_map, smaller_size(student_map, teacher_map)))


class FitNets(Strategy):
    """FitNets, hints: the student's features at one stage, through a trained adapter, match the teacher's.

    Knowledge: one intermediate feature map of the teacher, element by element.

    Loss: CE(student, labels) + beta mean((adapter(s) - t)^2), s and t the maps of one paired stage, the larger
    average-pooled to the smaller. The adapter is a 1x1 convolution with BatchNorm, trained with the student, and is
    discarded after training.

    Two-stage form (hint_epochs = n): for the first n epochs the hint is the only loss and trains the student up to the
    stage, and the adapter; then the main phase trains on the labels alone, from these weights. As in the paper, the
    hint has no part in the main phase. The paper's second stage is distillation from soft targets; combine the
    strategy with another to have such a term.

    Cost: one adapter of student channels x teacher channels. Serves every pair that has a paired stage.

    Differs from the paper: the mean instead of half the sum of squares, a 1x1 adapter with BatchNorm and pooling
    instead of a convolution whose kernel makes the sizes equal, and training on both losses at once by default (the
    usual form in later comparisons), with the two stages as an option.
    """

    name = "fitnets"
    family = "feature"
    paper = Paper(
        title="FitNets: Hints for Thin Deep Nets",
        authors="Adriana Romero, Nicolas Ballas, Samira Ebrahimi Kahou, Antoine Chassang, Carlo Gatta, Yoshua Bengio",
        year=2015,
        venue="ICLR 2015",
        id="1412.6550",
        code="https://github.com/adri-romsor/FitNets",
    )
    signals = ("stages",)
    per_sample = True
    non_negative = True

    beta: float = param(
        100.0,
        "weight of the hint",
        ge=0.0,
        search=(1.0, 1000.0),
        log=True,
        in_paper=False,
        source="RepDistiller and mdistiller, CIFAR-100",
    )
    stage: int = param(0, "paired stage, as kdzoo pair counts them from 1 at the input; 0: the middle one", ge=0)
    hint_epochs: int = param(
        0,
        "epochs of a hint phase without labels before the main phase; 0 trains jointly",
        ge=0,
        in_paper=False,
        source="RepDistiller and mdistiller train jointly; the paper trains in two stages",
    )

    def build(self, setup: Setup) -> None:
        """Choose the stage and make its adapter."""
        pairs = setup.paired_shapes()
        if not pairs:
            raise PairError("fitnets needs a paired stage, and this teacher and student have none: choose other models")
        if self.stage > len(pairs):
            raise PairError(
                f"fitnets.stage is {self.stage}, but this teacher and student have {len(pairs)} paired stages: choose "
                f"1 to {len(pairs)}, or 0 for the middle one"
            )
        # Of an even number, the middle is the earlier one: the paper finds deeper hints to over-regularise.
        chosen = self.stage - 1 if self.stage else (len(pairs) - 1) // 2
        self.student_stage, self.teacher_stage = setup.stage_pairs[chosen]
        student_shape, teacher_shape = pairs[chosen]
        self.adapter = ConvBatchNorm(student_shape.channels, teacher_shape.channels)
        self.size = common_size(student_shape, teacher_shape)
        self.pools = self.size != (teacher_shape.height, teacher_shape.width)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The main phase, after a hint phase of ``hint_epochs`` if there are any."""
        if self.hint_epochs >= epochs:
            raise UsageError(
                f"fitnets.hint_epochs is {self.hint_epochs}, which leaves no epoch of {epochs} for the main phase: "
                f"lower it, or raise the recipe's epochs"
            )
        if not self.hint_epochs:
            return super().phases(epochs)
        return (
            Phase("hint", self.hint_epochs, hard_labels=False, trains="both"),
            Phase("main", epochs - self.hint_epochs, teacher=False),
        )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The hint alone, at the size at which it is compared."""
        return Outputs({"stages": (reduce_hint(teacher.stages[self.teacher_stage], self.size),)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage, and the size if it is pooled."""
        pooled = f" pooled to {self.size[0]}x{self.size[1]}" if self.pools else ""
        return {"stages": (f"stages.{self.teacher_stage}{pooled}",)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``hint``; none in the main phase of the two-stage form."""
        if self.hint_epochs and batch.phase != "hint":
            return {}
        guided = self.adapter(student.stages[self.student_stage])
        return {"hint": self.beta * reduced_hint_loss(guided, teacher.stages[0])}
