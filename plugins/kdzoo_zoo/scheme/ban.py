"""Born-again networks: a student teaches the next student of the same architecture."""

from __future__ import annotations

from collections.abc import Mapping

from kdzoo import Batch, Outputs, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss


class BornAgain(Strategy):
    """Born-again networks: generations of the same student, each taught by the one before it.

    Knowledge: the class probabilities. The pair's teacher teaches the first generation, which teaches the second, and
    so on; the row is the last generation. Where teacher and student are the same architecture, this is the paper's
    sequence of born-again networks; where they are not, its students of another architecture than the teacher's.

    Loss: in each generation CE(student, labels) + KL(p_t || p_s) at T = 1, KL summed over classes, mean over the batch.
    ``ban.labels=false`` leaves the labels out, as the paper does beside.

    ``ban.generations`` counts the students. Each one but the last is a cell of its own, with weights and an order of
    samples of its own, trained with the students' recipe, once for each seed, and kept, so that more generations reuse
    the fewer. The row's ``time`` counts them, and records have the size, the scores and the seconds of each. Agreement
    and gap are to the teacher of the pair.

    Cost: as many trainings as generations. Serves every pair whose logits have the same classes.

    Differs from the paper: one generation is measured, the last, and no ensemble of the generations. The paper's two
    variants (samples weighted by the teacher's confidence; permuted probabilities of the other classes) are left out.
    The paper trains one to three generations; two is the default here. No code by the authors.
    """

    name = "ban"
    family = "scheme"
    paper = Paper(
        title="Born-Again Neural Networks",
        authors="Tommaso Furlanello, Zachary C. Lipton, Michael Tschannen, Laurent Itti, Anima Anandkumar",
        year=2018,
        venue="ICML",
        id="1805.04770",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    generations: int = param(2, "students, each taught by the one before it", ge=1, le=100, in_paper=False)
    labels: bool = param(True, "whether the labels are learned from too")

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1, or 0 without labels."""
        return 1.0 if self.labels else 0.0

    @classmethod
    def hops(cls, values: Mapping[str, object], student: str) -> list[tuple[str, dict[str, bool | int | float | str]]]:
        """The generations before the last."""
        last = values["generations"]
        assert isinstance(last, int)
        return [(student, {"generations": number}) for number in range(1, last)]

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``soft``."""
        return {"soft": soft_target_loss(student.logits, teacher.logits, temperature=1.0)}
