"""Factor transfer: the student learns what an autoencoder of the teacher's last map finds essential in it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Phase, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.fitnets import reduce_hint
from kdzoo_zoo.feature.phases import two_phases
from kdzoo_zoo.feature.vid import pooled_text
from kdzoo_zoo.tensors import check_same, common_size, full_precision, in_memory_order, pool_to

SLOPE = 0.1
"""Of each LeakyReLU below 0."""


def factor_transfer_loss(student_factor: Tensor, teacher_factor: Tensor) -> Tensor:
    """Difference of the directions of the two networks' factors.

    Equation, with f the whole factor of a sample and f' = f / max(||f||_2, 1e-12)::

        loss = mean over b and all elements of |f' of the student - f' of the teacher|

    Args:
        student_factor: B x C x H x W, or B x any shape.
        teacher_factor: the same shape. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the mean over all elements; 0 where the factors are equal up to scale.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision factors, else in their own, under autocast too. Epsilon 1e-12 on
    the length; a factor of zeros carries no gradient. There is no second derivative.

    Source: Kim, Park, Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
    arXiv 1802.04977. Authors' code: https://github.com/Jangho-Kim/Factor-Transfer-pytorch, with the L1 norm, as here.
    RepDistiller first takes the mean of squares over channels, as attention transfer does.

    Example:
        >>> import torch
        >>> factor_transfer_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(0.4000)
    """
    check_same("factors", student_factor, teacher_factor)
    student, teacher = full_precision(student_factor), full_precision(teacher_factor)
    if student.ndim == 4:
        student, teacher = in_memory_order(student, teacher)
    loss: Tensor = _DirectionDistance.apply(student.flatten(1), teacher.flatten(1))
    return loss


class _DirectionDistance(torch.autograd.Function):
    """The loss, and its gradient by each network, in the forward pass: few passes over the factors.

    With u = x / ||x|| and e the sign of each difference, the gradient by the student's x is (e - (e . u) u) / ||x||
    divided by the number of elements, the teacher's the same with -e.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        lengths = [torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (student, teacher)]
        # A factor of zeros stays zero.
        inverses = [length.clamp(min=1e-12).reciprocal() * (length != 0) for length in lengths]
        apart = student * inverses[0]
        apart -= teacher * inverses[1]  # not fused, so that equal factors differ by exactly 0
        loss: Tensor = apart.abs().mean()
        sign = apart.sign_()
        found: list[Tensor | None] = [None, None]
        for place, (x, inverse) in enumerate(zip((student, teacher), inverses, strict=True)):
            if ctx.needs_input_grad[place]:
                along = (sign * x).sum(dim=1, keepdim=True) * inverse**3
                gradient = (sign * inverse).addcmul_(x, along, value=-1)
                found[place] = gradient.mul_((1, -1)[place] / apart.numel())
        ctx.save_for_backward(*found)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass found."""
        if torch.is_grad_enabled():  # as it is with create_graph; what was found is a constant to autograd
            raise RuntimeError("the loss of ft has no second derivative: differentiate it without create_graph")
        return tuple(None if found is None else gradient * found for found in ctx.saved_tensors)


class FactorTransfer(Strategy):
    """Factor transfer: the student learns the factors that an autoencoder finds in the teacher's deepest map.

    Knowledge: the deepest paired map of the teacher, as its paraphraser encodes it, up to scale.

    Loss: in the first phase mean((P(t) - t)^2) of the teacher's map t, B x C x H x W, which trains the paraphraser P
    alone; then CE(student, labels) + beta mean(|f_s - f_t|), f_t the paraphraser's code, frozen, f_s the student's map
    through a translator, each divided by its length over the whole sample. The translator is trained with the student.
    The larger map is average-pooled to the smaller before.

    Cost: six 3x3 convolutions in the first phase, in which the student is not trained; the encoder's three and the
    translator's three in the second. Serves every pair that has a paired stage.

    Differs from the paper: the phases share the recipe's epochs, while the paper trains the paraphraser beforehand. Its
    reconstruction is the squared error, as in the paper; the authors' code has the absolute one (reconstruction=
    absolute). No BatchNorm, as in the authors' code; RepDistiller has it in the translator, torchdistill in both.
    """

    name = "ft"
    family = "feature"
    paper = Paper(
        title="Paraphrasing Complex Network: Network Compression via Factor Transfer",
        authors="Jangho Kim, SeongUk Park, Nojun Kwak",
        year=2018,
        venue="NeurIPS 2018",
        id="1802.04977",
        code="https://github.com/Jangho-Kim/Factor-Transfer-pytorch",
    )
    signals = ("stages",)
    per_sample = True
    non_negative = True

    beta: float = param(
        500.0,
        "weight of the factors",
        imagenet=1000.0,
        ge=0.0,
        search=(10.0, 5000.0),
        log=True,
        source="the authors' code, CIFAR-10; ImageNet: torchdistill, resnet34 -> resnet18",
    )
    rate: float = param(0.5, "channels of the factors, as a share of the teacher's", gt=0.0, le=4.0, source="the paper")
    share: float = param(
        0.125,
        "share of the epochs that train the paraphraser, at least one",
        gt=0.0,
        lt=1.0,
        search=(0.05, 0.5),
        in_paper=False,
        source="RepDistiller, CIFAR-100: 30 epochs beside 240",
    )
    reconstruction: str = param(
        "squared", "error of the paraphraser", choices=("squared", "absolute"), source="the paper; the authors' code"
    )

    def build(self, setup: Setup) -> None:
        """Make the paraphraser and the translator of the deepest paired stage."""
        if not setup.stage_pairs:
            raise PairError("ft needs a paired stage, and these networks have none: choose other models")
        self.student_stage, self.teacher_stage = setup.stage_pairs[-1]
        ours, theirs = setup.paired_shapes()[-1]
        self.size, self.full = common_size(ours, theirs), (theirs.height, theirs.width)
        width = max(1, round(self.rate * theirs.channels))
        self.encoder = _convolutions(nn.Conv2d, theirs.channels, theirs.channels, width, width)
        self.decoder = _convolutions(nn.ConvTranspose2d, width, width, theirs.channels, theirs.channels)
        self.translator = _convolutions(nn.Conv2d, ours.channels, ours.channels, width, width)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """The paraphraser's phase, then the main one."""
        return two_phases(self.name, self.share, epochs, Phase("paraphraser", 1, hard_labels=False, trains="strategy"))

    def reduce(self, teacher: Outputs) -> Outputs:
        """The deepest paired map, at the size at which it is compared."""
        return Outputs({"stages": (reduce_hint(teacher.stages[self.teacher_stage], self.size),)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage, and the size if it is pooled."""
        return {"stages": (pooled_text(self.teacher_stage, self.full, self.size),)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term: ``reconstruction`` in the first phase, ``factor`` in the main one."""
        dtype = next(self.parameters()).dtype
        target = teacher.stages[0].to(dtype)
        if batch.phase != "main":
            found = in_memory_order(full_precision(self.decoder(self.encoder(target))), full_precision(target))
            return {"reconstruction": (F.mse_loss if self.reconstruction == "squared" else F.l1_loss)(*found)}
        with torch.no_grad():
            factor = self.encoder(target)
        fmap = student.stages[self.student_stage]
        pooled = fmap if fmap.shape[-2:] == self.size else pool_to(full_precision(fmap), self.size)
        return {"factor": self.beta * factor_transfer_loss(self.translator(pooled.to(dtype)), factor)}


def _convolutions(kind: type[nn.Conv2d | nn.ConvTranspose2d], *widths: int) -> nn.Sequential:
    """3x3 convolutions of these widths, each with a LeakyReLU behind it."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [kind(before, after, kernel_size=3, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
    return nn.Sequential(*layers)
