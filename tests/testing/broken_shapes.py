"""Mistakes in shapes: of batches, classes, channels, maps, stages, memory and targets."""

from __future__ import annotations

import torch.nn.functional as F
from sound_strategy import Sound, divergence
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Setup, Strategy, Terms


class NeedsTwoSamples(Sound):
    """The deviation over a batch of one sample is NaN."""

    name = "needs-two-samples"
    caught_by = "batch-of-one"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        own, theirs = self.adapter(student.embedding).float(), teacher.embedding.float()
        return F.mse_loss(own.std(dim=0), theirs.std(dim=0))


class FirstBatchDecides(Sound):
    """It remembers how large the first batch was."""

    name = "first-batch-decides"
    caught_by = "partial-batch"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        self.rows = getattr(self, "rows", len(student.embedding))
        gap = self.adapter(student.embedding).float() - teacher.embedding.float()
        return gap.reshape(self.rows, -1).square().mean()


class TopFive(Sound):
    """It asks for five classes where there may be two."""

    name = "top-five"
    caught_by = "two-classes"
    # The tiny dataset of the trainings has four classes.
    also = frozenset({"two-epochs"})

    def compare(self, student: Outputs, teacher: Outputs) -> Tensor:
        best = teacher.logits.topk(5, dim=1).indices
        return divergence(student.logits.gather(1, best), teacher.logits.gather(1, best), self.temperature)


class Views(Sound):
    """It views memory as if it were contiguous."""

    name = "views"
    caught_by = "non-contiguous"

    def follow(self, student: Outputs, teacher: Outputs) -> Tensor:
        teacher.embedding.view(-1)
        return super().follow(student, teacher)


class WantsLabels(Sound):
    """It takes targets for class numbers."""

    name = "wants-labels"
    caught_by = "mixup-targets"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        right = student.logits.float().log_softmax(dim=1).gather(1, batch.targets[:, None])
        return super().forward(student, teacher, batch) | {"right": -0.1 * right.mean()}


class EqualChannels(Sound):
    """It subtracts embeddings of whatever width."""

    name = "equal-channels"
    caught_by = "unequal-channels"
    also = frozenset({"two-epochs"})

    def build(self, setup: Setup) -> None:
        super().build(setup)
        self.adapter = nn.Identity()


class WrongStages(Sound):
    """It finds the teacher's stages by the student's numbers."""

    name = "wrong-stages"
    signals = ("logits", "embedding", "stages")
    caught_by = "unequal-stages"
    # The networks of the trainings have different stages too.
    also = frozenset({"two-epochs", "unequal-sizes", "unequal-channels"})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        for place, _ in self.setup.stage_pairs:
            own, theirs = student.stages[place].float().mean(dim=1), teacher.stages[place].float().mean(dim=1)
            terms[f"stage {place}"] = F.mse_loss(own.mean(dim=(1, 2)), theirs.mean(dim=(1, 2)))
            assert setup_of(self, place) == theirs.shape[1:]
        return terms


def setup_of(strategy: Strategy, place: int) -> tuple[int, int]:
    """Height and width of the teacher's stage that faces a stage of the student."""
    faces = dict(strategy.setup.stage_pairs)
    return tuple(strategy.setup.teacher.stages[faces[place]][1:])


class SameSizes(Sound):
    """It takes maps to be of one size."""

    name = "same-sizes"
    signals = ("logits", "embedding", "stages")
    caught_by = "unequal-sizes"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        terms = super().forward(student, teacher, batch)
        for own, theirs in self.setup.stage_pairs:
            maps = [one.float().square().mean(dim=1) for one in (student.stages[own], teacher.stages[theirs])]
            terms[f"stage {own}"] = F.mse_loss(*maps)
        return terms


class AsItLies(Sound):
    """It takes the maps as they lie in memory."""

    name = "as-it-lies"
    signals = ("logits", "embedding", "stages")
    caught_by = "channels-last"
    also = frozenset({"non-contiguous"})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        own = student.stages[0].float()
        first = own.as_strided((len(own), own[0].numel() // 2), (own[0].numel(), 1))
        return super().forward(student, teacher, batch) | {"first half": first.abs().mean()}
