"""The memory estimate, against hand-counted networks and what a step takes."""

from __future__ import annotations

from torch import nn

from kdzoo.declarations import Signature, StageShape
from kdzoo.engine.distiller import Distiller
from kdzoo.engine.lockstep_group import estimate_memory
from kdzoo.models.taps import TappedModel
from kdzoo.outputs import Outputs, Setup
from kdzoo.recipe import Recipe
from kdzoo.refs import DataRef
from kdzoo.strategy import Strategy

DATA = DataRef(name="dots", fingerprint="0" * 16, num_classes=3, channels=1, img_size=(4, 4), fit=8, tune=4, test=4)
RECIPE = Recipe(name="plain", epochs=1, batch_size=8)
SIGNATURE = Signature(stages=(StageShape(2, 2, 2),), embedding=5, num_classes=3)


class Nothing(Strategy):
    name = "nothing"


class Student(TappedModel):
    """16 inputs, 3 classes: 51 values; the backward pass needs the 16 inputs of each image."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.layer = nn.Linear(16, 3)

    def forward(self, inputs, signals):
        return Outputs({"logits": self.layer(inputs.flatten(1))})


def distiller(views: int = 1) -> Distiller:
    strategy = Nothing(Setup(SIGNATURE, SIGNATURE, ((0, 0),), 3, 8))
    strategy.views = views
    return Distiller(Student(), strategy)


def test_a_linear_student_is_counted_by_hand() -> None:
    found = estimate_memory(distiller(), SIGNATURE, RECIPE, DATA)
    weights = 4 * 51
    assert found.kept == 3 * weights  # the optimizer keeps two more values of each
    assert found.passing == weights + 8 * 4 * 16 + 8 * 4 * (8 + 5 + 3)


def test_without_a_teacher_there_are_no_signals_of_it() -> None:
    assert estimate_memory(distiller(), None, RECIPE, DATA).passing == max(4 * 51 + 8 * 4 * 16, 3 * 4 * 51)


def test_a_second_view_is_a_second_batch() -> None:
    assert estimate_memory(distiller(2), SIGNATURE, RECIPE, DATA).passing == 4 * 51 + 2 * (8 * 4 * 16 + 8 * 4 * 16)


def test_an_average_is_another_copy_of_the_student() -> None:
    averaged = replace_recipe(ema=0.9)
    assert estimate_memory(distiller(), None, averaged, DATA).kept == 4 * 4 * 51


def replace_recipe(**changes: float) -> Recipe:
    return RECIPE.model_copy(update=changes)


def test_a_frozen_part_has_no_gradient() -> None:
    whole = distiller()
    whole.student.layer.bias.requires_grad_(False)
    assert estimate_memory(whole, None, RECIPE, DATA).kept == 4 * 51 + 2 * 4 * 48
