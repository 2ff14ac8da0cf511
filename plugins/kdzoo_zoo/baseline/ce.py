"""The student alone."""

from __future__ import annotations

from kdzoo import Batch, Outputs, Strategy, Terms


class CrossEntropy(Strategy):
    """The student alone, trained on hard labels only: the baseline, through the same path as every other strategy.

    Knowledge: none; the teacher is never run.

    Loss: CE(student, labels), the recipe's hard-label loss with weight 1. It reads the student's logits, B x classes.

    Paper: none; what every other strategy is compared with.

    Cost: none beside the student's own.
    """

    name = "ce"
    family = "baseline"
    signals = ("logits",)
    teacher_signals = ()
    per_sample = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """No distillation terms."""
        return {}
