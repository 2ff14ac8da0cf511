"""Teacher assistants: the knowledge goes from the teacher to the student over networks of a size between."""

from __future__ import annotations

from collections.abc import Mapping

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.classes import check_classes
from kdzoo_zoo.response.soft import soft_target_loss, soft_temperature, soft_weight


class TeacherAssistants(Strategy):
    """Teacher assistants: a network of a size between teacher and student is taught first, and then teaches.

    Knowledge: the softened class probabilities, handed on: the teacher teaches the first assistant, each assistant the
    next, and the last one the student. A student learns more from an assistant whose answers it can follow than from a
    teacher that is far larger.

    Loss: on each hop (1 - alpha) CE(student, labels) + alpha T^2 KL(p_t || p_s), as in ``soft``, with the network
    before in the teacher's place.

    ``takd.assistants`` names the assistants, from the teacher's side, separated by commas:
    ``--set takd.assistants=resnet14t`` or ``resnet26t,resnet14t``. Each is a cell of its own, trained with the
    students' recipe from weights of its own, once for each seed, and kept. The row's ``time`` counts them, and records
    have the size, the scores and the seconds of each. Agreement and gap are to the teacher of the pair.

    Cost: the training of each assistant, and of the student as with ``soft``. Needs ``takd.assistants``; without it,
    every pair is refused. Serves every pair whose logits have the same classes.

    Differs from the paper: nothing in the loss, but the authors' code calls PyTorch's KL with its default mean, which
    divides by batch x classes, so that its weight is K times as small. The authors searched T and the weight for each
    hop; here every hop has the same, those of ``soft``. Which assistant is best is not searched: the paper takes one of
    a size between, or all sizes there are.
    """

    name = "takd"
    family = "scheme"
    paper = Paper(
        title="Improved Knowledge Distillation via Teacher Assistant",
        authors="Seyed-Iman Mirzadeh, Mehrdad Farajtabar, Ang Li, Nir Levine, Akihiro Matsukawa, Hassan Ghasemzadeh",
        year=2020,
        venue="AAAI",
        id="1902.03393",
        code="https://github.com/imirzadeh/Teacher-Assistant-Knowledge-Distillation",
    )
    signals = ("logits",)
    per_sample = True
    zero_when_equal = True
    non_negative = True

    assistants: str = param(
        "",
        "the networks between teacher and student, from the teacher's side, separated by commas",
        in_paper=False,
    )
    temperature: float = soft_temperature()
    alpha: float = soft_weight()

    @property
    def ce_weight(self) -> float:  # type: ignore[override]
        """1 - alpha."""
        return 1.0 - self.alpha

    @classmethod
    def hops(cls, values: Mapping[str, object], student: str) -> list[tuple[str, dict[str, bool | int | float | str]]]:
        """The assistants, each trained by this strategy with those before it.

        Raises:
            PairError: none is named.
        """
        names = [name.strip() for name in str(values["assistants"]).split(",") if name.strip()]
        if not names:
            raise PairError(
                "it needs an assistant, a network of a size between teacher and student: name one, as in "
                "--set takd.assistants=resnet14t"
            )
        return [(name, {"assistants": ",".join(names[:place])}) for place, name in enumerate(names)]

    def build(self, setup: Setup) -> None:
        """Check that both networks speak of the same classes."""
        check_classes(self.name, setup)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``soft``."""
        return {"soft": self.alpha * soft_target_loss(student.logits, teacher.logits, self.temperature)}
