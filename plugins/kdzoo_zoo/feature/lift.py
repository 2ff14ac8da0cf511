"""Lift: a layer that widens a narrow ViT's tokens to the teacher's width, and stays in the student."""

from __future__ import annotations

from torch import Tensor, nn

from kdzoo import Batch, Outputs, PairError, Paper, Setup, Strategy, Terms, param
from kdzoo_zoo.feature.blocks import has_one_resolution
from kdzoo_zoo.feature.fitnets import reduce_hint, reduced_hint_loss
from kdzoo_zoo.tensors import common_size


class Lifted(nn.Module):
    """Layer norm and a linear layer on each token of a map.

    Args:
        width: of the student's tokens.
        lifted: the teacher's width.
        norm: ``before`` the linear layer, which then has a bias, or ``after`` it, which then has none.
    """

    def __init__(self, width: int, lifted: int, norm: str) -> None:
        super().__init__()
        if norm == "before":
            self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, lifted))
        else:
            self.layers = nn.Sequential(nn.Linear(width, lifted, bias=False), nn.LayerNorm(lifted))

    def forward(self, x: Tensor) -> Tensor:
        """Lift a map, B x width x H x W -> B x lifted x H x W; its precision may differ from the weights' own."""
        tokens: Tensor = self.layers(x.to(next(self.parameters()).dtype).permute(0, 2, 3, 1))
        return tokens.permute(0, 3, 1, 2)


class Lift(Strategy):
    """Lift: a narrow ViT's last tokens, lifted to the teacher's width by a layer that stays, match the teacher's.

    Knowledge: the last block's tokens, element by element. A narrow student cannot encode them: each token of a wide
    teacher uses nearly all channels. A projector that is discarded after training hides this; one that stays widens the
    student.

    Loss: CE(head(mean over tokens of L s), labels) + beta mean((L s - t)^2), s and t the last blocks' tokens without
    the final norms, L layer norm and a linear layer, the larger grid average-pooled to the smaller. L and the head
    stay in the student and predict; the student's own final norm, class token and classifier are not used.

    Cost: student width x teacher width + teacher width x classes parameters, which count as the student's. Serves
    pairs of a ViT with a ViT, or other networks of one resolution; it refuses others.

    Differs from the paper: built after its abstract and the authors' code, in which the layer norm comes after the
    linear layer (norm = after). It is also used with soft targets there: combine it with ``soft``.
    """

    name = "lift"
    family = "feature"
    paper = Paper(
        title="From Per-Image Low-Rank to Encoding Mismatch: Rethinking Feature Distillation in Vision Transformers",
        authors="Huiyuan Tian, Bonan Xu, Shijian Li",
        year=2026,
        venue="ICML 2026",
        id="2511.15572",
        code="https://github.com/thy960112/From-Per-Image-Low-Rank-to-Encoding-Mismatch",
    )
    signals = ("stages",)
    deployed = ("lift", "head")
    per_sample = True
    non_negative = True

    beta: float = param(
        0.2,
        "weight of the tokens",
        ge=0.0,
        source="the authors' script for the mean square alone, CaiT-S24 -> DeiT-Ti on ImageNet",
        search=(0.01, 10.0),
        log=True,
    )
    norm: str = param(
        "before",
        "where the layer norm stands: before the linear layer, as in front of a ViT's own head, or after it",
        choices=("before", "after"),
        in_paper=False,
        source="kdzoo; the authors' code has it after the layer",
    )

    def build(self, setup: Setup) -> None:
        """Make the layer and the head."""
        for who, network in (("student", setup.student), ("teacher", setup.teacher)):
            if not has_one_resolution(network):
                raise PairError(
                    f"lift matches the tokens of transformers with one resolution, and the {who} has stages of several "
                    "shapes: choose a ViT"
                )
        own, theirs = setup.student.stages[-1], setup.teacher.stages[-1]
        self.size = common_size(own, theirs)
        self.pools = self.size != (theirs.height, theirs.width)
        self.lift = Lifted(own.channels, theirs.channels, self.norm)
        self.head = nn.Linear(theirs.channels, setup.num_classes)

    def predict(self, student: Outputs) -> Tensor:
        """The logits of the new head on the mean of the lifted tokens."""
        pooled = self.lift(student.stages[-1]).mean(dim=(2, 3))
        logits: Tensor = self.head(pooled)
        return logits

    def reduce(self, teacher: Outputs) -> Outputs:
        """The last tokens, at the size at which they are compared."""
        return Outputs({"stages": (reduce_hint(teacher.stages[-1], self.size),)})

    def reduction(self) -> dict[str, tuple[str, ...]]:
        """The stage, and the size if it is pooled."""
        pooled = f" pooled to {self.size[0]}x{self.size[1]}" if self.pools else ""
        return {"stages": (f"stages.{len(self.setup.teacher.stages) - 1}{pooled}",)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """One term, ``tokens``."""
        return {"tokens": self.beta * reduced_hint_loss(self.lift(student.stages[-1]), teacher.stages[0])}
