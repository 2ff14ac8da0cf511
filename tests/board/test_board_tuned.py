from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from board_rows import by_variant

from kdzoo.board.render import board_text
from kdzoo.board.table import make_board
from kdzoo.cell import Cell
from kdzoo.refs import ModelRef
from kdzoo.space import Range

Factory = Callable[..., Any]

TEMPERATURE = {"soft.temperature": Range(low=1, high=20, log=True)}
LR = {"recipe.lr": Range(low=0.005, high=0.5, log=True)}
SHARED = [900, 910, 890]


def test_the_winner_and_trial_0_stand_in_one_table(rows: Factory, study: Factory, finals: Factory) -> None:
    one = study(best={"soft.temperature": 8.0}, seconds=2.5)
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + finals(one, [940, 948, 935])
    found = by_variant(make_board(records, studies=[one]))
    assert list(found) == [("soft", "tuned"), ("soft", "default"), ("ce", "")]
    tuned = found["soft", "tuned"]
    assert tuned["params"] == '{"alpha":0.9,"temperature":8.0}'
    assert (tuned["trials"], tuned["tune_epochs"], tuned["tuning_seconds"]) == (3, 5, 7.5)
    assert (tuned["pruner"], tuned["study"]) == ("none", one.id)
    assert json.loads(tuned["tune_space"]) == {"soft.temperature": "1:20:log"}
    assert tuned["top1"] == pytest.approx(94.1)
    # No row of ce was tuned: the difference is to the one there is, on the same seeds.
    assert (tuned["diff_ce"], tuned["diff_ce_to"], tuned["diff_ce_to_variant"]) == (pytest.approx(4.1), "ce", "")
    assert tuned["diff_soft"] == pytest.approx((1.0 + 1.2 + 1.1) / 3)
    assert tuned["diff_soft_to"] == "soft default alpha=0.9 temperature=4"
    for row in (found["soft", "default"], found["ce", ""]):
        assert (row["trials"], row["tuning_seconds"], row["tune_epochs"]) == (None, None, None)
        assert (row["pruner"], row["study"], row["tune_space"]) == ("", "", "")


def test_values_set_by_hand_have_no_variant(rows: Factory, study: Factory, finals: Factory) -> None:
    one = study(best={"soft.temperature": 8.0})
    hand = rows({"soft": [990] * 4}, params={"alpha": 0.9, "temperature": 2.0})
    records = rows({"ce": SHARED, "soft": [930, 936, 924], "at": SHARED}) + hand + finals(one, [940, 948, 935])
    board = make_board(records, studies=[one])
    assert dict(zip(board.frame["params"], board.frame["variant"], strict=True)) == {
        '{"alpha":0.9,"temperature":2.0}': "",
        '{"alpha":0.9,"temperature":8.0}': "tuned",
        '{"alpha":0.9,"temperature":4.0}': "default",
        "{}": "",
    }
    # The default is the baseline, though the other has more seeds and comes first by its parameters.
    assert set(board.frame["diff_soft_to"]) == {"soft default alpha=0.9 temperature=4"}


def test_a_tuned_recipe_joins_the_table_of_its_base(rows: Factory, study: Factory, finals: Factory) -> None:
    spaces = [{**TEMPERATURE, **LR}, {**TEMPERATURE, **LR, "recipe.weight_decay": Range(low=0, high=0.01)}]
    best: list[dict[str, Any]] = [
        {"soft.temperature": 4.0, "recipe.lr": 0.02},
        {"soft.temperature": 4.0, "recipe.lr": 0.02, "recipe.weight_decay": 0.001},
    ]
    studies = [study(space=space, best=one) for space, one in zip(spaces, best, strict=True)]
    records = rows({"ce": SHARED, "soft": [930, 936, 924]})
    records += finals(studies[0], [940, 941, 942]) + finals(studies[1], [950, 951, 952])
    board = make_board(records, studies=studies)
    assert len(board.groups) == 1
    assert set(board.frame["recipe"]) == {"quick"}
    assert len(set(board.frame["recipe_hash"])) == 1
    assert [json.loads(params) for params in board.frame["params"]] == [
        {"alpha": 0.9, "temperature": 4.0, "recipe.lr": 0.02, "recipe.weight_decay": 0.001},
        {"alpha": 0.9, "temperature": 4.0, "recipe.lr": 0.02},
        {"alpha": 0.9, "temperature": 4.0},
        {},
    ]
    # The two winners are told apart by what only one of their studies searched.
    assert list(board.frame["variant"])[:3] == ["tuned (recipe.weight_decay=0:0.01)", "tuned", "default"]
    assert list(board.frame["diff_ce"].dropna()) == pytest.approx([5.1, 4.1, 3.0])
    text = board_text(records, studies=studies, width=200)
    assert "soft tuned alpha=0.9 temperature=4 recipe.lr=0.02  " in text


def test_what_tuning_changed_is_shown_without_its_study(cell: Factory, record: Factory) -> None:
    base = cell("ce").recipe
    tuned = base.model_copy(
        update={"name": "mine", "lr": 0.1, "augment": base.augment.model_copy(update={"flip": True})}
    )
    same = base.model_copy(update={"name": "mine"})
    cells = [cell("ce", 0), cell("ce", 1, recipe=same, tuned_from=base), cell("ce", 0, recipe=tuned, tuned_from=base)]
    frame = make_board([record(one) for one in cells]).frame
    # Another name is no change, so seed 1 joins seed 0.
    assert dict(zip(frame["params"], frame["done"], strict=True)) == {
        "{}": 2,
        '{"recipe.augment.flip":true,"recipe.lr":0.1}': 1,
    }
    assert set(frame["group"]) == {0}
    assert set(frame["variant"]) == {""}
    assert set(frame["diff_ce_to"]) == {"ce"}


def test_trial_0_can_win(rows: Factory, study: Factory) -> None:
    one = study(seconds=1.0)
    board = make_board(rows({"ce": SHARED, "soft": [930, 936, 924]}), studies=[one])
    row = by_variant(board)["soft", "default, tuned"]
    assert (row["trials"], row["tuning_seconds"], row["study"]) == (3, 3.0, one.id)
    assert row["diff_ce"] == pytest.approx(3.0)
    assert row["diff_soft_note"] == "baseline"
    assert board.problems == ()


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"trials": 4}, ["tuned (3 trials)", "tuned (4 trials)"]),
        ({"epochs": 6}, ["tuned (5 epochs a trial)", "tuned (6 epochs a trial)"]),
        ({"pruner": "median"}, ["tuned (no pruner)", "tuned (median pruner)"]),
        ({"batch": 2}, ["tuned (1 at a time)", "tuned (2 at a time)"]),
        (
            {"space": {"soft.temperature": Range(low=2, high=9)}},
            ["tuned (soft.temperature=1:20:log)", "tuned (soft.temperature=2:9)"],
        ),
        ({"trials": 4, "pruner": "hyperband"}, ["tuned (3 trials)", "tuned (4 trials)"]),
    ],
)
def test_two_winners_are_told_apart(
    changes: dict[str, Any], labels: list[str], rows: Factory, study: Factory, finals: Factory
) -> None:
    studies = [study(best={"soft.temperature": 8.0}), study(best={"soft.temperature": 3.0}, **changes)]
    records = rows({"ce": SHARED, "soft": [930, 936, 924]})
    records += finals(studies[0], [940, 941, 943]) + finals(studies[1], [950, 951, 953])
    for order in itertools.permutations(studies):
        found = by_variant(make_board(records, studies=order))
        assert [variant for _, variant in found] == [*labels[::-1], "default", ""]
        assert [found["soft", label]["study"] for label in labels] == [one.id for one in studies]


def test_one_row_can_win_two_studies(rows: Factory, study: Factory, finals: Factory) -> None:
    one, more = study(best={"soft.temperature": 8.0}), study(best={"soft.temperature": 8.0}, trials=4, seconds=10.0)
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + finals(one, [940, 941, 943])
    for order in itertools.permutations([one, more]):
        row = by_variant(make_board(records, studies=order))["soft", "tuned"]
        assert (row["trials"], row["tuning_seconds"], row["study"]) == (3, 12.0, f"{one.id} {more.id}")
    other = study(best={"soft.temperature": 3.0}, trials=5)
    found = by_variant(make_board(records + finals(other, [950, 951, 953]), studies=[other, more, one]))
    assert [variant for _, variant in found] == ["tuned (5 trials)", "tuned (3 trials; 4 trials)", "default", ""]


def test_studies_of_other_pairs_strategies_or_recipes_say_nothing(
    cell: Factory, rows: Factory, study: Factory, finals: Factory
) -> None:
    base = cell().recipe
    longer = base.model_copy(update={"epochs": 20})
    others = [
        study(best={"soft.temperature": 8.0}, student=ModelRef(name="resnet14")),
        study(best={"soft.temperature": 8.0}, teacher=cell(teacher="vit").teacher),
        study(best={"soft.temperature": 8.0}, recipe=longer),
        study(best={"soft.temperature": 8.0}, data=cell().data.model_copy(update={"fingerprint": "beef"})),
    ]
    records = rows({"ce": SHARED, "soft": [930, 936, 924]})
    records += rows({"soft": [930]}, params={"alpha": 0.9, "temperature": 8.0})
    board = make_board(records, studies=others)
    assert set(board.frame["variant"]) == {""}
    assert len(board.remarks) == 4
    assert f"digits 8x8: resnet20 -> resnet14: study {others[0].id} of soft has no row" in board.remarks
    # The name of a recipe is in no id, so a study that calls it otherwise is a study of the same cells.
    renamed = study(best={"soft.temperature": 8.0}, recipe=base.model_copy(update={"name": "theirs"}))
    assert set(make_board(records, studies=[renamed]).frame["variant"]) == {"", "default", "tuned"}


def test_planned_tuned_cells_are_missing_seeds(rows: Factory, study: Factory, finals: Factory) -> None:
    one = study(space=LR, best={"recipe.lr": 0.02})
    planned: list[Cell] = one.finals(range(4))
    board = make_board(rows({"ce": SHARED}) + finals(one, [940, 950]), planned, [one])
    row = by_variant(board)["soft", "tuned"]
    assert (row["seeds"], row["done"], row["missing"]) == (4, 2, 2)
    assert [(problem.kind, problem.row, problem.seeds) for problem in board.problems] == [
        ("missing", "soft tuned alpha=0.9 temperature=4 recipe.lr=0.02", (2, 3))
    ]


@pytest.mark.parametrize(
    ("states", "line"),
    [
        ([], "soft: 0 of 3 trials ended so far, so there is no winner yet"),
        (["done", "asked"], "soft: 1 of 3 trials ended so far, so there is no winner yet"),
        (["done", "done", "asked"], "soft: 2 of 3 trials ended so far, so there is no winner yet"),
        (["failed", "pruned", "pruned"], "soft: none of 3 trials is done (1 failed, 2 pruned): the loss became NaN"),
        (["pruned"] * 3, "soft: none of 3 trials is done (0 failed, 3 pruned): the loss became NaN"),
        (["done", "done", "failed"], "soft: 1 of 3 trials failed: the loss became NaN"),
        (["done"] * 3, "soft: the winner of 3 trials has no row: alpha=0.9 temperature=8"),
    ],
)
@pytest.mark.parametrize("by", ["pair", "strategy"])
def test_a_study_without_a_winner_is_told(states: list[str], line: str, by: str, rows: Factory, study: Factory) -> None:
    one = study(best={"soft.temperature": 8.0}, states=states)
    if not states:
        one = one.model_copy(update={"trials": ()})
    records = rows({"ce": SHARED, "soft": [930, 936, 924]})
    board = make_board(records, studies=[one], by=by)
    assert [problem.kind for problem in board.problems] == ["tuning"] * len(board.problems)
    assert line in [f"{problem.row}: {problem.reason}" for problem in board.problems]
    assert set(board.frame["variant"]) == {"default", ""}
    for format in ("table", "md", "latex"):
        text = board_text(records, studies=[one], format=format, by=by, width=200)
        assert "tuning" in text
        assert line in text


def test_a_study_that_came_further_replaces_itself(rows: Factory, study: Factory, finals: Factory) -> None:
    whole = study(best={"soft.temperature": 8.0})
    partial = whole.model_copy(update={"trials": whole.trials[:2]})
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + finals(whole, [940, 941, 943])
    for order in itertools.permutations([whole, partial, whole]):
        board = make_board(records, studies=iter(order))
        assert ("soft", "tuned") in by_variant(board)
        assert board.problems == ()


def test_a_strategy_without_a_row_is_remarked_in_any_grouping(rows: Factory, study: Factory) -> None:
    one = study(states=["done", "asked"])
    board = make_board(rows({"ce": SHARED}), studies=[one])
    assert [(problem.row, problem.kind) for problem in board.problems] == [("soft", "tuning")]
    assert make_board(rows({"ce": SHARED}), studies=[one], by="strategy").remarks == (
        f"digits 8x8: resnet20 -> resnet8: study {one.id} of soft has no row",
    )


def test_a_study_speaks_of_every_evaluation_and_its_faults_are_told_once(
    cell: Factory, record: Factory, study: Factory
) -> None:
    one = study(states=["done", "asked"])
    records = [record(cell(name, 0), evaluation=evaluation) for name in ("ce", "soft") for evaluation in (1, 2)]
    board = make_board(records, studies=[one])
    assert list(board.frame["variant"][board.frame["strategy"] == "soft"]) == ["default", "default"]
    assert [board.groups[problem.group].evaluation for problem in board.problems] == [2]
    assert board.remarks == ()
