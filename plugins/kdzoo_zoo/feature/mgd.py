"""MGD: from a part of the student's map, a small network generates the teacher's map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.fitnets import reduce_hint
from kdzoo_zoo.feature.layers import Projector, pooled_text
from kdzoo_zoo.tensors import check_same, common_size, full_precision, in_memory_order, pool_to


def masked_generation_loss(generated_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the map generated from the student's and the teacher's.

    Equation, with g = ``generated_map`` and t = ``teacher_map``::

        loss = mean over b of sum over c, h, w of (g - t)^2

    Args:
        generated_map: B x C x H x W.
        teacher_map: B x C x H x W. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: summed over the map, mean over the batch; 0 where the maps are equal.

    Raises:
        ValueError: the shapes differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. No epsilon.

    Source: Yang, Li, Shao, Shi, Yuan, Yuan, "Masked Generative Distillation", ECCV 2022, arXiv 2205.01529. Authors'
    code: https://github.com/yzd-v/MGD.

    Example:
        >>> masked_generation_loss(torch.zeros(2, 1, 1, 2), torch.full((2, 1, 1, 2), 3.0))
        tensor(18.)
    """
    check_same("maps", generated_map, teacher_map)
    maps = in_memory_order(full_precision(generated_map), full_precision(teacher_map))
    return F.mse_loss(*maps, reduction="sum") / len(teacher_map)


class MaskedGeneration(Strategy):
    """MGD, masked generative distillation: the student's masked features must generate all of the teacher's.

    Knowledge: the teacher's map at the deepest paired stage, element by element.

    Loss: CE(student, labels) + beta mean over the batch of sum (G(m A(s)) - t)^2, s and t the stages, A a 1x1
    convolution where channels differ, m a random mask that sets a share ``dropped`` of the channels to 0, G two 3x3
    convolutions with a ReLU between. The mask is drawn anew for each sample and step. A and G are trained with the
    student and discarded after training.

    Cost: 18 x teacher channels squared weights, applied to the map. Serves every pair that has a paired stage.

    Differs from the paper: unequal sizes are served by average pooling of the larger map; the authors need equal ones.
    Their code for dense tasks drops positions instead of channels (``masks``), a larger share.
    """

    name = "mgd"
    family = "feature"
    paper = Paper(
        title="Masked Generative Distillation",
        authors="Zhendong Yang, Zhe Li, Mingqi Shao, Dachuan Shi, Zehuan Yuan, Chun Yuan",
        year=2022,
        venue="ECCV 2022",
        id="2205.01529",
        code="https://github.com/yzd-v/MGD",
    )
    signals = ("stages",)
    per_sample = True
    non_negative = True
    stochastic = True

    beta: float = param(
        1.2e-3,
        "weight of the term, which is a sum over the map",
        ge=0.0,
        search=(1e-5, 1e-1),
        log=True,
        imagenet=7e-5,
        in_paper=False,
        source="cls_KD, ResNet34 to ResNet18 on CIFAR-100; ImageNet: the authors' configuration",
    )
    dropped: float = param(
        0.15,
        "share of what is masked",
        ge=0.0,
        lt=1.0,
        search=(0.0, 0.8),
        source="the authors' code for classification; 0.45 to 0.75 of the positions in dense tasks",
    )
    masks: str = param(
        "channels",
        "what a mask sets to 0: whole channels, or positions in all channels",
        choices=("channels", "positions"),
        source="the authors' code for classification; positions in dense tasks",
    )

    def build(self, setup: Setup) -> None:
        """Make the adapter and the generating layers of the deepest stage."""
        if not setup.stage_pairs:
            raise PairError("mgd needs a paired stage, and this teacher and student have none: choose other models")
        self.student_stage, self.teacher_stage = setup.stage_pairs[-1]
        student, teacher = setup.paired_shapes()[-1]
        self.size, channels = common_size(student, teacher), teacher.channels
        equal = student.channels == channels
        self.adapter = nn.Identity() if equal else Projector(nn.Conv2d(student.channels, channels, 1))
        self.generation = Projector(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def reduce(self, teacher: Outputs) -> Outputs:
        """The deepest stage, at the size at which it is compared."""
        return Outputs({"stages": (reduce_hint(teacher.stages[self.teacher_stage], self.size),)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage, and the size if it is pooled."""
        return {"stages": (pooled_text(self.setup.teacher, self.teacher_stage, self.size),)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``generated``."""
        adapted = pool_to(self.adapter(student.stages[self.student_stage]), self.size)
        samples, channels, height, width = adapted.shape
        shape = (samples, channels, 1, 1) if self.masks == "channels" else (samples, 1, height, width)
        kept = (torch.rand(shape, device=adapted.device) >= self.dropped).to(adapted.dtype)
        generated = self.generation(adapted * kept)
        return {"generated": self.beta * masked_generation_loss(generated, teacher.stages[0])}
