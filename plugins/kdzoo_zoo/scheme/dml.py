"""Deep mutual learning: two students learn at once, each from the labels and from the other."""

from __future__ import annotations

from collections.abc import Mapping

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss


class MutualLearning(Strategy):
    """Deep mutual learning: two students are trained at the same time and teach each other; no teacher is needed.

    Knowledge: the class probabilities of the other student, as it is at that step.

    Loss: for each of the two CE(student, labels) + KL(p_other || p_own) at T = 1, KL summed over classes, mean over the
    batch, without a gradient into the other one.

    ``dml.second`` is the second student: ``student`` for the student's own architecture, ``teacher`` for that of the
    pair's teacher, from scratch, or a model. Both see the same batches and start from weights of their own. The row is
    the first, in the place of the pair's student. The record holds the second's scores and size under ``peer``, its
    weights stand beside it, and boards show its score. The row's ``time`` is that of both. The pair's teacher does not
    teach; agreement and gap are to it, as for ``ce``.

    Cost: the training of both networks. Serves every pair.

    Differs from the paper: nothing in the loss. The paper updates the first network and asks it again before it updates
    the second; here both learn from the same answers, and each is run once a step. Its cohorts of more than two are
    left out. Its TensorFlow code adds 1e-8 inside the logarithm and lets gradients into the other network's
    probabilities.
    """

    name = "dml"
    family = "scheme"
    paper = Paper(
        title="Deep Mutual Learning",
        authors="Ying Zhang, Tao Xiang, Timothy M. Hospedales, Huchuan Lu",
        year=2018,
        venue="CVPR",
        id="1706.00384",
        code="https://github.com/YingZhangDUT/Deep-Mutual-Learning",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    second: str = param(
        "student", "the second student: student for the student's kind, teacher for the teacher's, or a model"
    )

    @classmethod
    def peer(cls, values: Mapping[str, object], teacher: str, student: str) -> str:
        """The second student."""
        named = str(values["second"]).strip()
        return {"student": student, "teacher": teacher}.get(named, named)

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``mutual``."""
        return {"mutual": soft_target_loss(student.logits, teacher.logits, temperature=1.0)}
