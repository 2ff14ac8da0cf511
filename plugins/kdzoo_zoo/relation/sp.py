"""Similarity-preserving distillation: samples that are alike for the teacher are alike for the student."""

from __future__ import annotations

from torch import Tensor

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.gram import gram
from kdzoo_zoo.relation.rows import as_rows, unit_rows
from kdzoo_zoo.tensors import check_same


def similarity_preserving_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Difference of the two networks' similarities between the samples of a batch.

    Equation, with X the map of a network, flattened to B rows::

        G = X X',  R_i = G_i / max(||G_i||_2, 1e-12) for each row i
        loss = 1/B^2 sum over i, j of (R_ij of the student - R_ij of the teacher)^2

    Args:
        student_map: B x C x H x W, or B x any shape.
        teacher_map: B x any shape, of another size if need be. Not detached: pass it without gradient.

    Returns:
        A scalar, at least 0: the sum over all pairs divided by B^2; 0 where the maps are equal (also up to rotation and
        scale), and for B = 1. With rows of length 1 it falls with the batch size.

    Raises:
        ValueError: the batches differ.

    Precision: computed in float32 for half-precision maps, else in the maps' own, under autocast too. Epsilon 1e-12 on
    the rows' length; the row of a sample whose map is zero carries no gradient.

    Source: Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, arXiv 1907.09682. The authors'
    implementation is not public; the values are those of RepDistiller.

    Example:
        Samples that are equal for the student and orthogonal for the teacher:

        >>> import torch
        >>> similarity_preserving_loss(torch.ones(2, 1, 1, 1), torch.eye(2)[:, :, None, None])
        tensor(0.2929)
    """
    student, teacher = as_rows(student_map), as_rows(teacher_map)
    check_same("batch", student, teacher, slice(1))
    difference = unit_rows(gram(student)) - unit_rows(gram(teacher))
    return difference.square().mean()


class SimilarityPreserving(Strategy):
    """Similarity-preserving distillation: samples that are alike for the teacher are alike for the student.

    Knowledge: the inner products of the samples of a batch in the deepest paired stage, each sample's scaled to length
    1.

    Loss: CE(student, labels) + beta mean over i, j of (R_ij of the student - R_ij of the teacher)^2, R the B x B inner
    products of the flattened maps, B x C x H x W, with rows of length 1.

    Cost: one product of B x D with itself for each network; no adapters. Serves every pair that has a paired stage;
    channels and sizes may differ. Relations are those within one batch, so the batch size is part of the strategy's
    effect: the loss falls with it, and beta belongs to batches of 64.

    Differs from the paper: no gradient from a sample whose map is zero. The paper compares the last map, as here.
    """

    name = "sp"
    family = "relation"
    paper = Paper(
        title="Similarity-Preserving Knowledge Distillation",
        authors="Frederick Tung, Greg Mori",
        year=2019,
        venue="ICCV 2019",
        id="1907.09682",
    )
    signals = ("stages",)
    zero_when_equal = True
    non_negative = True
    symmetric = True

    beta: float = param(
        3000.0,
        "weight of the term",
        ge=0.0,
        search=(100.0, 10000.0),
        log=True,
        source="the paper, batches of 128 on CIFAR-10; RepDistiller, batches of 64 on CIFAR-100",
    )

    def build(self, setup: Setup) -> None:
        """Take the deepest paired stage."""
        if not setup.stage_pairs:
            raise PairError("sp needs a paired stage, and this teacher and student have none: choose other models")
        self.student_stage, self.teacher_stage = setup.stage_pairs[-1]

    def reduce(self, teacher: Outputs) -> Outputs:
        """The deepest map alone: products of samples are made with the batch."""
        return Outputs({"stages": (teacher.stages[self.teacher_stage],)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage as it is."""
        return {"stages": (f"stages.{self.teacher_stage}",)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``similarity``."""
        loss = similarity_preserving_loss(student.stages[self.student_stage], teacher.stages[0])
        return {"similarity": self.beta * loss}
