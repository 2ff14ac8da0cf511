"""Configuration -> strategies with all parameters, recipes, cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo import Strategy, UsageError, param
from kdzoo.cell import Cell
from kdzoo.config import BenchConfig
from kdzoo.matrix import cell_title, resolve_recipes, resolve_strategies, student_cells
from kdzoo.needed import teacher_cell
from kdzoo.plugins import Plugin
from kdzoo.refs import StrategyRef, TeacherRef
from kdzoo.registry import Registry


class Ce(Strategy):
    name = "ce"


class OtherCe(Strategy):
    name = "ce"


class Soft(Strategy):
    name = "soft"
    revision = "3"
    temperature: float = param(4.0, "softens", gt=0, imagenet=1.0)


class OtherSoft(Strategy):
    name = "soft"
    sharpness: int = param(1, "sharpens", ge=0)


@pytest.fixture
def registry() -> Registry:
    return Registry([Plugin("zoo", "base", "1", [Ce, Soft])])


@pytest.fixture
def crowded() -> Registry:
    return Registry([Plugin("zoo", "base", "1", [Ce, Soft]), Plugin("more", "my.pack", "2", [OtherSoft])])


@pytest.fixture
def bench() -> Callable[..., BenchConfig]:
    defaults = {"dataset": ("d",), "teacher": ("t",), "student": ("s",)}
    return lambda *strategies, **changes: BenchConfig(strategies=strategies, **(defaults | changes))


def test_the_baseline_comes_first_and_each_strategy_once(registry: Registry, bench: Callable[..., BenchConfig]) -> None:
    found = resolve_strategies(bench("soft", "base:soft", "ce", "soft"), registry)
    assert found == [
        StrategyRef(name="ce", distribution="base", revision="1"),
        StrategyRef(name="soft", distribution="base", revision="3", params={"temperature": 4.0}),
    ]


def test_settings_become_parameters_of_the_declared_type(registry: Registry, bench: Callable[..., BenchConfig]) -> None:
    soft = resolve_strategies(bench("soft", set={"soft.temperature": 2, "recipe.lr": 1}), registry)[1]
    assert soft.params == {"temperature": 2.0}
    assert type(soft.params["temperature"]) is float


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"soft.temprature": 2}, "unknown parameter of soft 'temprature'; did you mean temperature"),
        ({"soft.temperature": -2}, "soft.temperature must be a number above 0, not -2"),
        ({"soft.temperature": "hot"}, "soft.temperature must be a number above 0, not 'hot'"),
        (
            {"softt.temperature": 2},
            "set softt.temperature: unknown strategy of the bench 'softt'; did you mean soft",
        ),
        ({"at.beta": 2}, "set at.beta: unknown strategy of the bench 'at'; known: ce, recipe, soft"),
        (
            {"other:soft.temperature": 2},
            "set other:soft.temperature: unknown strategy of the bench 'other:soft'",
        ),
        ({"temperature": 2}, r"set temperature: write strategy\.param or recipe\.key"),
        ({"soft.": 2}, r"set soft\.: write strategy\.param or recipe\.key"),
        ({"ce.temperature": 2}, "unknown parameter of ce 'temperature'; known: none"),
    ],
)
def test_a_wrong_setting_is_told(
    settings: dict[str, Any], message: str, registry: Registry, bench: Callable[..., BenchConfig]
) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        resolve_strategies(bench("soft", set=settings), registry)


def test_an_unknown_strategy_is_told(registry: Registry, bench: Callable[..., BenchConfig]) -> None:
    with pytest.raises(UsageError, match="unknown strategy 'softt'; did you mean soft"):
        resolve_strategies(bench("softt"), registry)


def test_values_for_imagenet_stand_in_for_defaults_and_not_for_what_is_set(
    registry: Registry, bench: Callable[..., BenchConfig]
) -> None:
    def values(**keys: Any) -> dict[str, Any]:
        return resolve_strategies(bench("soft", **keys), registry)[1].params

    assert values() == {"temperature": 4.0}
    assert values(defaults="cifar") == values()
    assert values(defaults="imagenet") == {"temperature": 1.0}
    assert values(defaults="imagenet", set={"soft.temperature": 2}) == {"temperature": 2.0}


def test_all_takes_every_strategy_even_two_of_one_name(crowded: Registry, bench: Callable[..., BenchConfig]) -> None:
    found = resolve_strategies(bench("all"), crowded)
    assert [(each.distribution, each.name) for each in found] == [
        ("base", "ce"),
        ("base", "soft"),
        ("my.pack", "soft"),
    ]


def test_two_strategies_of_one_name_are_set_apart(crowded: Registry, bench: Callable[..., BenchConfig]) -> None:
    settings = {"base:soft.temperature": 2.0, "my.pack:soft.sharpness": 5}
    _, one, other = resolve_strategies(bench("all", set=settings), crowded)
    assert (one.params, other.params) == ({"temperature": 2.0}, {"sharpness": 5})
    with pytest.raises(
        UsageError, match=r"set soft\.temperature: soft is brought by base and my\.pack; write base:soft"
    ):
        resolve_strategies(bench("all", set={"soft.temperature": 2.0}), crowded)


def test_a_setting_finds_the_one_strategy_that_was_picked(crowded: Registry, bench: Callable[..., BenchConfig]) -> None:
    picked = resolve_strategies(bench("my.pack:soft", set={"soft.sharpness": 3}), crowded)[1]
    assert (picked.distribution, picked.params) == ("my.pack", {"sharpness": 3})


def test_a_clash_over_the_baseline_can_be_settled(bench: Callable[..., BenchConfig]) -> None:
    plugins = [Plugin("zoo", "base", "1", [Ce, Soft]), Plugin("more", "pack", "2", [OtherCe])]
    with pytest.raises(UsageError, match="strategy 'ce' is brought by base and pack; choose one, for example base:ce"):
        resolve_strategies(bench("soft"), Registry(plugins))
    registry = Registry(plugins)
    found = resolve_strategies(bench("soft", "pack:ce"), registry)
    assert [(each.distribution, each.name) for each in found] == [("pack", "ce"), ("base", "soft")]
    assert registry.strategy("ce").value is OtherCe
    assert registry.strategy("base:ce").value is Ce


def test_flags_change_the_students_and_the_teachers_recipe(bench: Callable[..., BenchConfig]) -> None:
    same = resolve_recipes(bench("soft", epochs=2, set={"recipe.lr": 0.1, "soft.temperature": 2}, precision="bf16"))
    assert same.student == same.teacher
    assert (same.student.epochs, same.student.lr, same.student.precision) == (2, 0.1, "bf16")
    apart = resolve_recipes(bench("soft", epochs=2, teacher_epochs=7, teacher_recipe="modern"))
    assert (apart.student.epochs, apart.teacher.epochs) == (2, 7)
    assert (apart.student.optimizer, apart.teacher.optimizer) == ("sgd", "adamw")
    plain = resolve_recipes(bench("soft", recipe="modern"))
    assert plain.student == plain.teacher
    assert plain.student.name == "modern"


def test_a_recipe_says_what_differs_for_a_teacher_for_which_none_is_named(
    bench: Callable[..., BenchConfig], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("epochs: 3\nbatch_size: 8\nlr: 0.2\nteacher: {epochs: 9, augment.crop: 2}\n")
    plain = resolve_recipes(bench("soft", recipe=str(mine)))
    assert (plain.student.epochs, plain.student.augment.crop, plain.student.name) == (3, 0, "mine")
    assert (plain.teacher.epochs, plain.teacher.augment.crop, plain.teacher.lr) == (9, 2, 0.2)
    assert plain.teacher.name == "mine+crop=2+epochs=9"
    assert plain.trial == plain.student
    # Whatever is said on the command line is said of both, unless it is said of the teacher.
    assert resolve_recipes(bench("soft", recipe=str(mine), epochs=4)).teacher.epochs == 4
    assert resolve_recipes(bench("soft", recipe=str(mine), epochs=4, teacher_epochs=7)).teacher.epochs == 7
    named = resolve_recipes(bench("soft", recipe=str(mine), teacher_recipe=str(mine)))
    assert named.teacher == named.student


def test_a_pairs_cells_go_seed_by_seed(cell: Cell, registry: Registry, bench: Callable[..., BenchConfig]) -> None:
    assert cell.teacher is not None
    strategies = resolve_strategies(bench("soft"), registry)
    cells = student_cells(cell.data, (cell.teacher, cell.student), strategies, cell.recipe, 3)
    assert [(each.seed, each.strategy.name) for each in cells] == [
        (seed, name) for seed in range(3) for name in ("ce", "soft")
    ]
    assert len({each.id for each in cells}) == 6
    assert {(each.kind, each.init, each.teacher, each.data) for each in cells} == {
        ("student", "random", cell.teacher, cell.data)
    }


def test_a_teacher_is_trained_where_its_weights_come_from_nowhere_else(cell: Cell) -> None:
    assert cell.teacher is not None
    training = teacher_cell(cell.teacher, cell.data)
    assert training is not None
    assert training.strategy == cell.teacher.strategy
    assert (training.kind, training.student, training.teacher, training.init) == (
        "teacher",
        cell.teacher.model,
        None,
        "random",
    )
    tuned = teacher_cell(cell.teacher.model_copy(update={"weights": "finetuned"}), cell.data)
    assert tuned is not None
    assert tuned.init == "pretrained"
    for weights in ("pretrained", "file"):
        assert teacher_cell(TeacherRef(model=cell.teacher.model, weights=weights), cell.data) is None


def test_a_cell_has_a_title(cell: Cell) -> None:
    assert cell_title(cell) == "soft resnet10t -> test_vit:patch_size=4 on digits seed 2"
    assert (
        cell_title(cell.model_copy(update={"teacher": None, "kind": "teacher"}))
        == "teacher test_vit:patch_size=4 on digits"
    )


def test_a_recipe_named_for_the_teacher_is_not_moved_by_what_is_tried_on_students(
    bench: Callable[..., BenchConfig],
) -> None:
    recipes = resolve_recipes(bench("soft", teacher_recipe="modern", epochs=3, set={"recipe.lr": 0.01}))
    assert (recipes.student.epochs, recipes.student.lr) == (3, 0.01)
    assert (recipes.teacher.name, recipes.teacher.epochs, recipes.teacher.lr) == ("modern", 300, 1e-3)
    assert resolve_recipes(bench("soft", teacher_recipe="modern", teacher_epochs=9)).teacher.epochs == 9


class Grown(Strategy):
    name = "soft"
    temperature: float = param(4.0, "softens", gt=0)
    top: int = param(0, "came later", ge=0, added=True)


def test_an_added_parameter_leaves_the_names_of_older_cells(bench: Callable[..., BenchConfig]) -> None:
    registry = Registry([Plugin("zoo", "base", "1", [Ce, Grown])])

    def params(**changes: Any) -> dict[str, Any]:
        return resolve_strategies(bench("soft", **changes), registry)[1].params

    assert params() == params(set={"soft.top": 0}) == {"temperature": 4.0}
    assert params(set={"soft.top": 3}) == {"temperature": 4.0, "top": 3}
    assert params(tune=2, search={"soft.top": "0:5"}) == {"temperature": 4.0, "top": 0}
