from __future__ import annotations

import io
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from board_rows import by_variant

from kdzoo.board.display import heading, tables
from kdzoo.board.render import FORMATS, board_text
from kdzoo.board.table import make_board
from kdzoo.space import Range
from kdzoo.study import Study, Trial
from kdzoo.tuning.report import studies_text

Factory = Callable[..., Any]

TEMPERATURE = {"soft.temperature": Range(low=1, high=20, log=True)}
LR = {"recipe.lr": Range(low=0.005, high=0.5, log=True)}
SHARED = [900, 910, 890]


def test_a_table_with_tuned_rows_has_a_column_more(rows: Factory, study: Factory, finals: Factory) -> None:
    one = study(best={"soft.temperature": 8.0}, seconds=104.0)
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + finals(one, [940, 948, 935])
    records += rows({"ce": SHARED}, student="resnet14")
    board = make_board(records, studies=[one])
    plain, tuned = tables(board, "rank")
    own = ["#", "strategy", "top-1 %", "sd", "vs ce", "95% interval", "seeds", "gap", "retention", "time"]
    assert [column.header for column in tuned.columns] == [*own, "tuning"]
    assert [column.header for column in plain.columns] == own
    assert [tuned.columns[-1].text(row) for row in tuned.rows] == ["3 trials, 312 s", "-", "-"]
    assert [tuned.columns[1].text(row) for row in tuned.rows] == [
        "soft tuned alpha=0.9 temperature=8",
        "soft default alpha=0.9 temperature=4",
        "ce",
    ]
    assert ("tuning", "3 trials each, 5 epochs a trial, TPE (search 1), no pruner") in heading(tuned)
    assert "tuning" not in dict(heading(plain))
    text = board_text(records, studies=[one], explain=True)
    assert "tuned: best of 3 trials by top-1 on tune" in text
    assert "pruner: stopped" not in text


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_pruner_is_named(pruner: str, rows: Factory, study: Factory, finals: Factory) -> None:
    one = study(best={"soft.temperature": 8.0}, pruner=pruner, states=["done", "done", "pruned"])
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + finals(one, [940, 948, 935])
    board = make_board(records, studies=[one])
    (table,) = tables(board, "rank")
    assert dict(heading(table))["tuning"] == f"3 trials each, 5 epochs a trial, TPE (search 1), {pruner} pruner"
    assert table.columns[-1].text(table.rows[0]) == f"3 trials, 12 s, {pruner}"
    assert by_variant(board)["soft", "tuned"]["pruner"] == pruner
    assert f"{pruner} pruner: stopped weak trials early" in board_text(records, studies=[one], explain=True)
    assert board.problems == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trials": 4}, "4 trials, 5 epochs a trial, TPE (search 1), no pruner"),
        ({"epochs": 6}, "3 trials, 6 epochs a trial, TPE (search 1), no pruner"),
        ({"pruner": "median"}, "3 trials, 5 epochs a trial, TPE (search 1), median pruner"),
        ({"batch": 3}, "3 trials, 5 epochs a trial, 3 at a time, TPE (search 1), no pruner"),
        ({"tuner": 2}, "3 trials, 5 epochs a trial, TPE (search 2), no pruner"),
    ],
)
def test_unequal_budgets_are_remarked(
    changes: dict[str, Any], told: str, rows: Factory, study: Factory, finals: Factory
) -> None:
    at: dict[str, Any] = {"params": {"beta": 2.0}, "space": {"at.beta": Range(low=1, high=9)}, "best": {"at.beta": 3.0}}
    soft, equal, other = study(best={"soft.temperature": 8.0}), study("at", **at), study("at", **at, **changes)
    records = rows({"ce": SHARED}) + finals(soft, [940, 948, 935]) + finals(equal, [940, 948, 935])
    assert make_board(records, studies=[soft, equal]).remarks == ()
    for order in itertools.permutations([soft, other]):
        board = make_board(records, studies=order)
        assert board.remarks == (
            "digits 8x8: resnet20 -> resnet8: unequal tuning budgets, so its tuned rows do not compare fairly",
        )
        parts = board.groups[0].tuning.removeprefix("unequal: ").split("; ")
        assert sorted(parts) == sorted(["3 trials, 5 epochs a trial, TPE (search 1), no pruner", told])
    # Each pair has its own budget, and no row of one is compared with a row of the other.
    assert make_board(records, studies=[soft]).remarks == ()


def test_csv_and_json_hold_the_columns_of_tuning(rows: Factory, study: Factory, finals: Factory) -> None:
    one = study(space={**TEMPERATURE, **LR}, best={"soft.temperature": 8.0, "recipe.lr": 0.02})
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + finals(one, [940, 948, 935])
    row = json.loads(board_text(records, studies=[one], format="json"))["groups"][0]["rows"][0]
    assert (row["variant"], row["trials"], row["tuning_seconds"], row["study"]) == ("tuned", 3, 12.0, one.id)
    assert row["params"] == {"alpha": 0.9, "temperature": 8.0, "recipe.lr": 0.02}
    assert row["tune_space"] == {"soft.temperature": "1:20:log", "recipe.lr": "0.005:0.5:log"}
    read = pd.read_csv(io.StringIO(board_text(records, studies=[one], format="csv")))
    assert list(read["variant"].fillna("")) == ["tuned", "default", ""]
    assert list(read["trials"].dropna()) == [3]
    assert json.loads(read["tune_space"][0]) == row["tune_space"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("by", ["pair", "dataset", "strategy"])
def test_the_order_of_inputs_changes_nothing(
    format: str, by: str, rows: Factory, study: Factory, finals: Factory
) -> None:
    studies = [
        study(best={"soft.temperature": 8.0}),
        study(best={"soft.temperature": 3.0}, trials=4, pruner="median"),
        study(best={"soft.temperature": 3.0}, trials=5),
        study(states=["done", "asked"], epochs=7),
        study(space={**TEMPERATURE, **LR}, best={"soft.temperature": 4.0, "recipe.lr": 0.1}),
        study("ce", space=LR, best={"recipe.lr": 0.1}),
    ]
    winners = [studies[place] for place in (0, 1, 4, 5)]
    records = rows({"ce": SHARED, "soft": [930, 936, 924]}) + rows({"soft": [920]}, student="resnet14")
    records += [one for winner in winners for one in finals(winner, [940, 940, 941])]
    planned = [final for winner in winners for final in winner.finals(range(4))]
    expected = board_text(records, planned, studies, format=format, by=by)
    draw = random.Random(2)
    for _ in range(4):
        for things in (records, planned, studies):
            draw.shuffle(things)
        assert board_text(iter(records), iter(planned), iter(studies), format=format, by=by) == expected


def stage_study(study: Factory, high: int, trials: int) -> Study:
    """A finished study of a whole number whose trials have 4 seconds each, and of which the last is the best."""
    space = {"fitnets.stage": Range(low=0, high=high, whole=True)}
    plan = study("fitnets", space=space, trials=trials, tuner=2, states=["asked"]).plan
    tried = [1, 0, *range(2, high + 1)][: plan.length]
    made = tuple(
        Trial(
            cell=plan.trial({"fitnets.stage": stage}).id,
            values={"fitnets.stage": stage},
            state="done",
            curve=(50.0, 90.0 + number),
            seconds=4.0,
        )
        for number, stage in enumerate(tried)
    )
    return Study(id=plan.id, plan=plan, trials=made)


@pytest.mark.parametrize(
    ("high", "trials", "row_says", "study_says"),
    [
        (3, 20, "4 trials (all 4 settings tried), 16 s", "4 of 20: 4 done; all 4 settings tried"),
        (3, 4, "4 trials (all 4 settings tried), 16 s", "4 of 4: 4 done; all 4 settings tried"),
        (30, 3, "3 trials, 12 s", "3 of 3: 3 done; "),
    ],
)
def test_it_is_told_where_every_setting_was_tried(
    high: int, trials: int, row_says: str, study_says: str, rows: Factory, study: Factory, finals: Factory
) -> None:
    one = stage_study(study, high, trials)
    assert one.finished
    records = rows({"ce": SHARED, "fitnets": [930, 936, 924]}) + finals(one, [940, 948, 935])
    (row,) = (line for line in board_text(records, studies=[one], format="md").splitlines() if row_says in line)
    assert "tuned" in row
    assert study_says in studies_text([one], width=200)
    assert ("all 4 settings tried" in board_text(records, studies=[one], format="csv")) == (high == 3)


def test_trials_that_repeat_each_other_are_told(study: Factory) -> None:
    """As those of studies that were made before a search tried nothing twice."""
    plan = study(states=["asked"]).plan
    values = plan.defaults()
    trial = Trial(cell=plan.trial(values).id, values=values, state="done", curve=(9.0, 9.0), seconds=4.0)
    one = Study(id=plan.id, plan=plan, trials=(trial,) * 3)
    assert "3 of 3: 3 done; 1 different setting;" in studies_text([one], width=200)
    assert "4.0 seconds" in studies_text([one])
