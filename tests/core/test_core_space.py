from __future__ import annotations

from typing import Any

import pytest

from kdzoo import Param, UsageError
from kdzoo.config import BenchConfig, load_bench, parse_ranges
from kdzoo.matrix import resolve_spaces, resolve_strategies, tried_first
from kdzoo.recipe import Recipe
from kdzoo.registry import Registry
from kdzoo.space import Range, paper_values, parse_range, recipe_space, strategy_space

DECLARED = {
    "temperature": Param(4.0, gt=0, search=(1.0, 20.0), log=True),
    "stage": Param(0, ge=0),
    "kind": Param("mean", choices=("mean", "max")),
    "flag": Param(False),
}
RECIPE = Recipe(name="quick", epochs=2, batch_size=4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:20", Range(low=1, high=20)),
        ("0.1:1e2:log", Range(low=0.1, high=100, log=True)),
        (" -1 : 1 ", Range(low=-1, high=1)),
    ],
)
def test_a_range_is_read(text: str, expected: Range) -> None:
    assert parse_range(text) == expected
    assert parse_range(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "1:", "a:b", "1:2:linear", "2:1", "1:1", "0:1:log", "1:inf", "1:nan", "1:2:"]
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be low:high or low:high:log"):
        parse_range(text)


def test_the_declared_ranges_are_searched() -> None:
    assert strategy_space("soft", DECLARED, {}) == {"soft.temperature": Range(low=1, high=20, log=True)}


def test_a_given_range_replaces_or_adds() -> None:
    space = strategy_space("soft", DECLARED, {"temperature": "2:3", "stage": "0:3"})
    assert space == {"soft.temperature": Range(low=2, high=3), "soft.stage": Range(low=0, high=3, whole=True)}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"temprature": "1:2"}, "unknown parameter of soft 'temprature'.*temperature"),
        ({"kind": "1:2"}, "search soft.kind: only numbers are searched"),
        ({"flag": "0:1"}, "search soft.flag: only numbers are searched"),
        ({"temperature": "-1:2"}, "search soft.temperature: every value must be a number above 0"),
        ({"stage": "0.5:2"}, "search soft.stage: it is a whole number"),
    ],
)
def test_a_range_that_no_parameter_can_have_is_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        strategy_space("soft", DECLARED, given)


def test_more_than_five_parameters_are_too_many() -> None:
    declared = {f"p{number}": Param(1.0, search=(0.0, 2.0)) for number in range(6)}
    with pytest.raises(UsageError, match=r"6 parameters to search .* at most 5"):
        strategy_space("busy", declared, {})
    declared.pop("p0")
    assert len(strategy_space("busy", declared, {})) == 5


def test_the_paper_speaks_of_what_is_searched_and_differs() -> None:
    declared = {
        "weight": Param(1.0, paper=4.0, search=(0.1, 10.0)),
        "power": Param(2, search=(1, 3)),
        "depth": Param(2, paper=3),
    }
    assert paper_values("pull", declared, {"pull.weight", "pull.power", "recipe.lr"}) == {"weight": 4.0}
    assert paper_values("pull", declared, {"pull.depth"}) == {"depth": 3}


def test_no_built_in_strategy_begins_elsewhere_than_with_its_defaults() -> None:
    settings, registry = config(strategies="all", tune=3), Registry.load()
    strategies = resolve_strategies(settings, registry)
    own = [one for one in strategies if one.distribution == "kdzoo"]
    found = tried_first(settings, resolve_spaces(settings, own, RECIPE, registry), registry)
    assert found == {one: one for one in own}


def test_recipe_keys_are_searched_around_the_recipes_own() -> None:
    space = recipe_space(RECIPE, ["weight_decay", "lr"], {})
    assert list(space) == ["recipe.lr", "recipe.weight_decay"]
    assert space["recipe.lr"] == Range(low=0.005, high=0.5, log=True)
    assert recipe_space(RECIPE, [], {}) == {}
    assert recipe_space(RECIPE, [], {"momentum": "0.8:0.95"}) == {"recipe.momentum": Range(low=0.8, high=0.95)}


@pytest.mark.parametrize(
    ("given", "told"),
    [({"epochs": "1:9"}, "unknown key of the recipe to search 'epochs'"), ({"momentum": "0.5:1"}, "1 cannot be its")],
)
def test_a_recipe_range_that_no_recipe_can_have_is_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        recipe_space(RECIPE, [], given)


def config(**values: Any) -> BenchConfig:
    return BenchConfig(**{"strategies": "soft,at", "dataset": "digits", "teacher": "a", "student": "b"} | values)


def spaces(**values: Any) -> dict[str, list[str]]:
    settings, registry = config(**values), Registry.load()
    strategies = resolve_strategies(settings, registry)
    found = resolve_spaces(settings, strategies, RECIPE, registry)
    return {strategy.name: list(space) for strategy, space in found.items()}


def test_a_bench_searches_each_strategy_and_the_recipe_for_all() -> None:
    assert spaces(tune=3) == {
        "ce": [],
        "soft": ["soft.temperature", "soft.alpha"],
        "at": ["at.beta", "at.power"],
    }
    both = spaces(tune=3, tune_recipe="lr", search={"recipe.momentum": "0.8:0.9", "kdzoo:at.beta": "1:2"})
    shared = ["recipe.lr", "recipe.momentum"]
    assert both == {
        "ce": shared,
        "soft": ["soft.temperature", "soft.alpha", *shared],
        "at": ["at.beta", "at.power", *shared],
    }


def test_a_range_of_a_strategy_that_does_not_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"search rkd.angle: unknown strategy of the bench 'rkd'"):
        spaces(tune=3, search={"rkd.angle": "1:2"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tune_epochs", 2),
        ("tune_recipe", "lr"),
        ("search", {"a.b": "1:2"}),
        ("pruner", "median"),
        ("tune_batch", 2),
    ],
)
def test_what_belongs_to_tuning_needs_a_number_of_trials(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{key} belongs to tuning"):
        config(**{key: value})
    assert getattr(config(**{key: value, "tune": 1}), key)


def test_a_default_is_for_where_neither_flag_nor_file_speaks() -> None:
    assert load_bench("quick", {}, {"tune": 20}).tune == 20
    assert load_bench("digits", {}, {"tune": 20}).tune == 15
    assert load_bench("digits", {"tune": 3}, {"tune": 20}).tune == 3


def test_flags_of_tuning_go_over_the_file() -> None:
    ranges = parse_ranges(["soft.temperature=1:2", "recipe.lr = 0.1:1:log"])
    assert ranges == {"soft.temperature": "1:2", "recipe.lr": "0.1:1:log"}
    settings = load_bench("quick", {"tune": 4, "search": ranges})
    assert settings.search == ranges
    with pytest.raises(UsageError, match=r"--search soft: write strategy.param=low:high\[:log\]"):
        parse_ranges(["soft"])
    with pytest.raises(UsageError, match=r"--search soft.alpha must be low:high"):
        load_bench("quick", {"tune": 4, "search": {"soft.alpha": "9"}})
    with pytest.raises(UsageError, match=r"--tune must be at least 1, not 0"):
        load_bench("quick", {"tune": 0})
    with pytest.raises(UsageError, match=r"--pruner must be 'none', 'median' or 'hyperband'"):
        load_bench("quick", {"tune": 1, "pruner": "mean"})
    with pytest.raises(UsageError, match=r"--tune-recipe"):
        load_bench("quick", {"tune": 1, "tune_recipe": "epochs"})
