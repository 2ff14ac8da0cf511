"""A cell's name and seeds: what changes them, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from kdzoo.cell import PROTOCOL, Cell, canonical_json, content_hash
from kdzoo.errors import UsageError
from kdzoo.recipe import Recipe
from kdzoo.refs import ModelRef, StrategyRef, TeacherRef

PURPOSES = ("init", "order", "adapters", "mixup", "epoch 0", "epoch 1")


def replaced(cell: Cell, path: str, value: Any) -> Cell:
    """The cell with one value changed, by its dotted place in the JSON."""
    dump = cell.model_dump(mode="json")
    *outer, last = path.split(".")
    inner = dump
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return Cell.model_validate_json(canonical_json(dump))


def leaves(value: Any, place: str = "") -> dict[str, Any]:
    """Every plain value of a nested dict by its dotted place."""
    if isinstance(value, dict) and value:
        return {
            k: v for key, inner in value.items() for k, v in leaves(inner, f"{place}.{key}" if place else key).items()
        }
    return {place: value}


def test_the_id_of_a_known_cell_stays_the_same(cell: Cell) -> None:
    # A change here makes every record that anybody has kept unfindable. Raise PROTOCOL if that is what you want.
    assert PROTOCOL == 1
    assert cell.id == "712ee6ea762055a8"
    assert cell.seed_for("init") == 8221446799289397829


def test_the_id_says_nothing_of_recipe_names(cell: Cell) -> None:
    assert replaced(cell, "recipe.name", "quick+lr=0.05").id == cell.id
    assert replaced(cell, "teacher.recipe.name", "other").id == cell.id


def test_every_other_value_changes_the_id(cell: Cell) -> None:
    other_values = {
        "kind": "trial", "init": "pretrained", "teacher.weights": "file", "teacher.digest": "ab",
        "recipe.schedule": "linear", "recipe.precision": "bf16", "data.img_size": [8, 9],
        "teacher.strategy.params": {"beta": 2.0}, "strategy.params": {"beta": 2.0},
        "tuned_from": {"name": "base", "epochs": 3, "batch_size": 2},
        "teacher.input": {"mean": [0.5]}, "teacher.average": "model_ema",
        "teacher.recipe.schedule": "linear", "teacher.recipe.precision": "bf16", "teacher.model.args": {"depth": 2},
    }  # fmt: skip
    ids = {cell.id}
    changed = 0
    for place, value in leaves(cell.model_dump(mode="json")).items():
        if place in ("recipe.name", "teacher.recipe.name", "study") or place.endswith("milestones"):
            continue
        if place in other_values:
            new = other_values[place]
        elif isinstance(value, bool):
            new = not value
        elif isinstance(value, int):
            new = value + 1
        elif isinstance(value, float):
            new = value / 2 + 0.125
        else:
            assert isinstance(value, str), place
            new = value + "x"
        ids.add(replaced(cell, place, new).id)
        changed += 1
    assert changed > 40
    assert len(ids) == changed + 1


def test_a_value_at_its_default_is_not_in_the_identity(cell: Cell) -> None:
    # So that a field which a later version adds leaves the names of old cells as they are; the protocol is always in.
    assert "init" not in cell.identity()
    assert "mixup" not in cell.identity()["recipe"]
    assert cell.identity()["protocol"] == PROTOCOL


def test_seeds_share_a_row_and_every_other_value_is_in_its_key(cell: Cell) -> None:
    key = cell.row_key(1)
    assert replaced(cell, "seed", 7).row_key(1) == key
    assert cell.row_key(2) != key
    parts = {
        "data.fingerprint": "context", "recipe.lr": "context", "recipe.name": "context", "init": "context",
        "protocol": "context", "student.name": "student", "teacher.model.name": "teacher",
        "teacher.recipe.name": "teacher", "strategy.revision": "setting",
    }  # fmt: skip
    for place, part in parts.items():
        value = {"recipe.lr": 0.7, "protocol": 2, "init": "pretrained"}.get(place, "other")
        other = replaced(cell, place, value).row_key(1)
        assert {name for name in key._fields if getattr(key, name) != getattr(other, name)} == {part}
    rows = {replaced(cell, "strategy.params", {"x": value}).row_key(1) for value in (True, 1, 1.0, "1", None)}
    assert len(rows) == 5


def test_the_key_without_names_keeps_recipes_of_other_names_together(cell: Cell) -> None:
    for place in ("recipe.name", "teacher.recipe.name"):
        other = replaced(cell, place, "other")
        assert other.row_key(1) != cell.row_key(1)
        assert other.row_key(1, names=False) == cell.row_key(1, names=False)


def test_what_tuning_changed_is_part_of_the_setting(cell: Cell) -> None:
    recipe = cell.recipe.model_copy(update={"lr": 0.3, "name": "tuned"})
    augment = recipe.augment.model_copy(update={"flip": not recipe.augment.flip})
    tuned = cell.model_copy(
        update={"recipe": recipe.model_copy(update={"augment": augment}), "tuned_from": cell.recipe}
    )
    assert tuned.recipe_changes == {"recipe.lr": 0.3, "recipe.augment.flip": augment.flip}
    assert tuned.row_key(1).pair == cell.row_key(1).pair
    assert tuned.row_key(1) != cell.row_key(1)
    unchanged = cell.model_copy(update={"recipe": cell.recipe, "tuned_from": cell.recipe})
    assert unchanged.row_key(1) == cell.row_key(1)


def test_a_cell_is_made_of_its_rows_key(cell: Cell) -> None:
    alone = cell.model_copy(update={"teacher": None, "kind": "teacher"})
    tuned = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"lr": 0.3}), "tuned_from": cell.recipe})
    for one in (cell, alone, replaced(cell, "student.args", {"a": 1.0, "b": None})):
        assert Cell.of_row(one.row_key(1)) == one.model_copy(update={"seed": 0})
        assert one.row_key(1).changes == {}
    assert Cell.of_row(tuned.row_key(1)) == cell.model_copy(update={"seed": 0})
    assert tuned.row_key(1).changes == {"recipe.lr": 0.3}


def test_a_teachers_training_draws_otherwise_than_the_student_of_its_kind(cell: Cell) -> None:
    teacher = replaced(cell, "kind", "teacher")
    assert {teacher.seed_for(purpose) for purpose in PURPOSES}.isdisjoint(cell.seed_for(each) for each in PURPOSES)


def test_milestones_change_the_id(cell: Cell) -> None:
    recipes = [cell.recipe.model_dump(mode="json") | {"schedule": "step", "milestones": [m]} for m in (0.5, 0.6)]
    assert len({cell.id, *(replaced(cell, "recipe", recipe).id for recipe in recipes)}) == 3


def test_the_order_of_keys_does_not_change_the_id(cell: Cell) -> None:
    params = {"temperature": 4.0, "alpha": 0.9}
    backwards = dict(reversed(params.items()))
    one, other = (
        cell.model_copy(update={"strategy": cell.strategy.model_copy(update={"params": each})})
        for each in (params, backwards)
    )
    assert list(one.strategy.params) != list(other.strategy.params)
    assert one.id == other.id


def test_a_cell_survives_its_json(cell: Cell) -> None:
    again = Cell.model_validate_json(canonical_json(cell.model_dump(mode="json")))
    assert again == cell
    assert again.id == cell.id
    assert hash(again) == hash(cell)


def test_seeds_do_not_depend_on_strategy_or_teacher(cell: Cell) -> None:
    others = [
        cell.model_copy(update={"strategy": StrategyRef(name="rkd", distribution="other", revision="7")}),
        cell.model_copy(update={"teacher": TeacherRef(model=ModelRef(name="vit"), weights="pretrained")}),
        cell.model_copy(update={"teacher": None}),
        replaced(cell, "recipe.name", "another"),
        replaced(cell, "kind", "trial"),
    ]
    for purpose in PURPOSES:
        assert {other.seed_for(purpose) for other in others} == {cell.seed_for(purpose)}


def test_seeds_depend_on_purpose_data_student_recipe_and_index(cell: Cell) -> None:
    others = [
        cell,
        replaced(cell, "seed", 3),
        replaced(cell, "data.fingerprint", "f"),
        replaced(cell, "data.img_size", [16, 16]),
        replaced(cell, "student.name", "test_vit2"),
        replaced(cell, "student.args", {}),
        replaced(cell, "recipe.lr", 0.1),
        replaced(cell, "recipe.augment.flip", True),
    ]
    seeds = [each.seed_for(purpose) for each in others for purpose in PURPOSES]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ("resnet18", "resnet18", {}),
        ("resnet101.a1h_in1k", "resnet101.a1h_in1k", {}),
        ("test_vit:patch_size=4", "test_vit", {"patch_size": 4}),
        ("m:b=x:a=1e-1:c=true:d=null", "m", {"a": 0.1, "b": "x", "c": True, "d": None}),
        ("hf-hub:timm/resnet18:depth=2", "hf-hub:timm/resnet18", {"depth": 2}),
        ("local-dir:models/mine", "local-dir:models/mine", {}),
    ],
)
def test_reads_a_model(text: str, name: str, args: dict[str, Any]) -> None:
    ref = ModelRef.parse(text)
    assert (ref.name, ref.args) == (name, args)


def test_the_order_of_arguments_makes_no_other_model() -> None:
    assert ModelRef.parse("m:b=2:a=1") == ModelRef.parse("m:a=1:b=2")
    assert str(ModelRef.parse("m:b=2:a=1")) == "m:a=1:b=2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m:depth", "write arguments as name:argument=value, for example m:depth=6"),
        ("m:=3", "write arguments as"),
        ("m:2x=3", "write arguments as"),
        (":depth=3", "has no name"),
        ("", "has no name"),
    ],
)
def test_refuses_what_is_no_model(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelRef.parse(text)


def test_a_cell_refuses_what_it_does_not_know(cell: Cell) -> None:
    for change in ({"colour": "red"}, {"seed": -1}, {"seed": True}, {"kind": "cousin"}):
        with pytest.raises(ValueError, match=r"1 validation error"):
            Cell(**(dict(cell) | change))


def test_canonical_json_is_one_text_and_refuses_nan() -> None:
    assert canonical_json({"b": [1.0, None], "a": "é"}) == '{"a":"\\u00e9","b":[1.0,null]}'
    assert content_hash({"b": 1, "a": 2}) == content_hash({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_recipes_are_compared_by_value() -> None:
    one, other = (Recipe(name="r", epochs=1, batch_size=2) for _ in range(2))
    assert one == other
    assert one != one.model_copy(update={"lr": 1.0})


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("protocol", 0), ("seed", -1), ("teacher.seed", -1), ("data.channels", 0), ("data.img_size", [8, 0]),
        ("data.img_size", [-3, 8]), ("data.fit", -5), ("data.tune", 0), ("data.test", 0), ("data.num_classes", 1),
    ],
)  # fmt: skip
def test_a_number_below_what_there_can_be_is_refused(place: str, value: Any, cell: Cell) -> None:
    with pytest.raises(ValueError, match="greater than or equal to"):
        replaced(cell, place, value)


def test_a_rung_ends_within_its_recipe_and_knows_those_below(cell: Cell) -> None:
    whole = cell.model_dump()
    rung = Cell.model_validate(whole | {"kind": "rung", "until": 2})
    assert rung.only_selects
    assert [lower.until for lower in rung.lower_rungs()] == [1]
    assert len({rung.id, *(lower.id for lower in rung.lower_rungs()), cell.id}) == 3
    assert "until" not in cell.identity()
    assert "until" not in cell.model_dump_json()
    assert not Cell.model_validate(whole | {"kind": "rung", "until": cell.recipe.epochs}).goes_on
    for wrong in ({"kind": "rung"}, {"until": 1}, {"kind": "rung", "until": cell.recipe.epochs + 1}):
        with pytest.raises(ValueError, match="a rung ends after an epoch of its recipe"):
            Cell.model_validate(whole | wrong)
