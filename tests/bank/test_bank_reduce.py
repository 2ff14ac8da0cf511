"""What a strategy needs less than the signals, and how the bank knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bank_lab import EXACT, banked, terms
from torch import Tensor

from kdzoo import Batch, KdzooError, Outputs, Setup, Signature, StageShape, Strategy, Terms, param
from kdzoo.engine.bank.needs import need_of, tensors_of
from kdzoo.engine.bank.spec import kept_dtype, signal_of
from kdzoo.recipe import Augment, Recipe
from kdzoo.refs import StrategyRef
from kdzoo_zoo.attention.at import AttentionTransfer
from kdzoo_zoo.feature.fitnets import FitNets

STUDENT = Signature((StageShape(4, 8, 8), StageShape(8, 2, 2)), embedding=8, num_classes=3)
TEACHER = Signature((StageShape(6, 4, 4), StageShape(12, 4, 4)), embedding=12, num_classes=3)
SETUP = Setup(STUDENT, TEACHER, ((0, 0), (1, 1)), num_classes=3, num_samples=10)
RECIPE = Recipe(name="r", epochs=4, batch_size=2, augment=Augment(flip=True))


def outputs(samples: int = 5) -> Outputs:
    torch.manual_seed(0)
    stages = tuple(torch.randn(samples, *shape) for shape in TEACHER.stages)
    return Outputs({"logits": torch.randn(samples, 3), "stages": stages, "embedding": torch.randn(samples, 12)})


def need(strategy: Strategy, recipe: Recipe = RECIPE) -> Any:
    ref = StrategyRef(name=strategy.name or "s", distribution="tests", revision="1", params={})
    return need_of(strategy, ref, recipe)


def texts(strategy: Strategy) -> dict[str, tuple[int, ...]]:
    found = need(strategy)
    return {text: tuple(tensor.shape[1:]) for _, text, tensor in tensors_of(found.reduced(outputs()), found)}


class TopTwo(Strategy):
    """Keeps the two highest logits and their classes."""

    name = "top-two"
    signals = ("logits",)
    scale: float = param(1.0, "of the term")

    def reduce(self, teacher: Outputs) -> Outputs:
        values, places = teacher.logits.topk(2, dim=1)
        return Outputs({"values": values, "places": places})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        values, places = teacher.values["values"], teacher.values["places"]
        return {"top": (student.logits.gather(1, places) - values).square().mean()}


class NamedTopTwo(TopTwo):
    name = "named-top-two"

    def reduction(self) -> dict[str, str]:
        return {"values": "logits top 2", "places": "logits classes of top 2"}


def test_attention_transfer_keeps_a_map_of_one_channel_for_each_pair() -> None:
    assert texts(AttentionTransfer(SETUP)) == {
        "stages.0 attention 4x4 power 2.0": (16,),
        "stages.1 attention 2x2 power 2.0": (4,),
    }
    assert "stages.1 attention 2x2 power 3.0" in texts(AttentionTransfer(SETUP, power=3.0))


def test_fitnets_keeps_its_hint_at_the_size_at_which_it_is_compared() -> None:
    assert texts(FitNets(SETUP, stage=1)) == {"stages.0": (6, 4, 4)}
    assert texts(FitNets(SETUP, stage=2)) == {"stages.1 pooled to 2x2": (12, 2, 2)}
    hint = FitNets(SETUP, stage=1).reduce(outputs()).stages[0]
    assert torch.equal(hint, outputs().stages[0])


@pytest.mark.parametrize("kind", [AttentionTransfer, FitNets])
def test_reduced_rows_depend_on_their_own_samples_alone(kind: type[Strategy]) -> None:
    strategy = kind(SETUP)
    whole = strategy.reduce(outputs()).stages
    some = strategy.reduce(Outputs({"stages": tuple(stage[1:3] for stage in outputs().stages)})).stages
    for one, other in zip(whole, some, strict=True):
        torch.testing.assert_close(one[1:3], other, rtol=0, atol=0)


def test_signals_as_they_are_have_their_own_names() -> None:
    class Whole(Strategy):
        name = "whole"
        signals = ("logits", "stages", "embedding")

    assert list(texts(Whole(SETUP))) == ["logits", "stages.0", "stages.1", "embedding"]


def test_a_reduction_without_a_text_is_kept_for_this_strategy_alone() -> None:
    names = [sorted(texts(TopTwo(SETUP, scale=scale))) for scale in (1.0, 1.0)]
    assert names[0] == names[1]
    assert all("by top-two" in text for text in names[0])
    other = need_of(TopTwo(SETUP), StrategyRef(name="top-two", distribution="d", revision="2"), RECIPE)
    assert other.text("values") not in names[0]
    assert sorted(texts(NamedTopTwo(SETUP))) == ["logits classes of top 2", "logits top 2"]


def test_top_values_and_their_classes_go_through_the_bank(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 2, "seeds": 2}
    expected = banked(tmp_path / "loop", [NamedTopTwo], None, **settings)
    found = banked(tmp_path / "bank", [NamedTopTwo], EXACT["disk"], **settings)
    for one, other in zip(found.bench.students("named-top-two"), expected.bench.students("named-top-two"), strict=True):
        assert terms(one) == [pytest.approx(line, rel=1e-5) for line in terms(other)]
        assert one.environment.bank == "disk: logits classes of top 2 int64, logits top 2 float32"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda teacher: Outputs({"mean": teacher.logits.mean()}), "gives 'mean' as Tensor: give tensors of one row"),
        (lambda teacher: Outputs({"mean": teacher.logits.mean(0)}), r"as float32 of shape \(4,\) for 32 samples"),
        (lambda teacher: Outputs({"none": None}), "gives 'none' as NoneType"),
    ],
)
def test_a_reduction_that_breaks_the_contract_fails_its_cells(
    made: Any, message: str, tmp_path: Path, teacher_file: str
) -> None:
    class Broken(Strategy):
        name = "broken"

        def reduce(self, teacher: Outputs) -> Outputs:
            return made(teacher)

        def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
            return {"one": student.logits.mean()}

    found = banked(tmp_path, ["soft", Broken], EXACT["ram"], teacher_weights=teacher_file, epochs=1)
    assert found.only("soft").status == "done"
    with pytest.raises(KdzooError, match=message):
        raise KdzooError(found.only("broken").reason)


@pytest.mark.parametrize(
    ("text", "given", "wanted", "kept"),
    [
        ("logits", "float32", "float16", "float32"),
        ("logits top 2", "float32", "float16", "float32"),
        ("embedding", "float32", "float16", "float16"),
        ("stages.1 pooled to 2x2", "float32", "bfloat16", "bfloat16"),
        ("stages.1", "float32", "float32", "float32"),
        ("embedding", "bfloat16", "float16", "bfloat16"),
        ("embedding", "bfloat16", "float32", "bfloat16"),
        ("places by x 12", "int64", "float16", "int64"),
    ],
)
def test_types(text: str, given: str, wanted: str, kept: str) -> None:
    assert kept_dtype(text, given, wanted) == kept


def test_a_text_begins_with_its_signal() -> None:
    assert [signal_of(text) for text in ("logits", "stages.2", "stages.2 pooled to 4x4", "embedding by x 1")] == [
        "logits", "stages", "stages", "embedding",
    ]  # fmt: skip


class Two(Strategy):
    name = "two"
    views = 2


@pytest.mark.parametrize(
    ("strategy", "recipe", "views"),
    [
        (Strategy(SETUP), RECIPE, (0, 1, 2, 3)),
        (Strategy(SETUP), RECIPE.model_copy(update={"views": 3}), (0, 1, 2, 0)),
        (Two(SETUP), RECIPE, (0, 1, 2, 3, 4, 5, 6, 7)),
        (Two(SETUP), RECIPE.model_copy(update={"views": 2}), (0, 1, 2, 3, 0, 1, 2, 3)),
        (FitNets(SETUP, hint_epochs=2), RECIPE, (0, 1)),
    ],
)
def test_which_views_a_training_shows(strategy: Strategy, recipe: Recipe, views: tuple[int, ...]) -> None:
    assert need(strategy, recipe).views == views


def test_reduced_tensors_are_not_taken_for_signals() -> None:
    found = need(AttentionTransfer(SETUP))
    assert found.signals == {"stages"}
    assert all(isinstance(tensor, Tensor) for _, _, tensor in tensors_of(found.reduced(outputs()), found))
