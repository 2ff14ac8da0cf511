from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from kdzoo.board.columns import COLUMNS
from kdzoo.board.render import board_text
from kdzoo.board.table import make_board
from kdzoo.cell import Cell
from kdzoo.errors import UsageError
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.refs import Balance, ModelRef, TeacherRef

Factory = Callable[..., Any]


def named(frame: pd.DataFrame, strategy: str) -> dict[str, Any]:
    """The one row of a strategy, None for what is missing."""
    found = frame[frame["strategy"] == strategy]
    assert len(found) == 1
    values = found.iloc[0].to_dict()
    return {str(name): None if pd.isna(value) else value for name, value in values.items()}


def test_every_figure_of_a_row_by_hand(sweep: list[Record]) -> None:
    row = named(make_board(sweep).frame, "soft")
    reach = 4.302653 * 0.4 / math.sqrt(3)
    t = 3 / (0.4 / math.sqrt(3))
    assert (row["rank"], row["seeds"], row["done"], row["failed"], row["missing"]) == (1, 3, 3, 0, 0)
    assert (row["top1"], row["top1_sd"]) == pytest.approx((93.0, 0.6))
    spread = 4.302653 * 0.6 / math.sqrt(3)
    assert (row["top1_low"], row["top1_high"]) == pytest.approx((93 - spread, 93 + spread), abs=1e-6)
    assert row["top1_note"] == ""
    assert (row["diff_ce"], row["diff_ce_low"], row["diff_ce_high"]) == pytest.approx(
        (3, 3 - reach, 3 + reach), abs=1e-6
    )
    assert row["diff_ce_p"] == pytest.approx(1 - t / math.sqrt(t**2 + 2))
    assert row["diff_ce_p_holm"] == row["diff_ce_p"]
    assert (row["diff_ce_n"], row["diff_ce_note"], row["diff_ce_to"], row["bold"]) == (3, "", "ce", True)
    assert row["diff_soft_note"] == "baseline"
    assert row["gap_recovered"] == pytest.approx(3 / 8)
    assert (row["gap_recovered_low"], row["gap_recovered_note"]) == (None, "n<5")
    assert row["retention"] == pytest.approx(93 / 98)
    assert (row["teacher_parameters"], row["student_parameters"], row["compression"]) == (270_000, 90_000, 3.0)
    assert (row["teacher_top1"], row["agreement"], row["ece"], row["nll"], row["top5"]) == (98.0, 95.0, 2.0, 0.5, 100.0)
    assert (row["time_vs_ce"], row["time_vs_ce_n"], row["train_seconds"]) == (1.0, 3, 10.0)
    assert row["params"] == '{"alpha":0.9,"temperature":4.0}'


def test_a_failed_seed_is_counted_and_not_averaged(sweep: list[Record]) -> None:
    board = make_board(sweep)
    row = named(board.frame, "fitnets")
    assert (row["seeds"], row["done"], row["failed"], row["missing"]) == (3, 2, 1, 0)
    assert row["top1"] == pytest.approx((90.5 + 90.9) / 2)
    # Against ce on seeds 0 and 1 only: (0.5 - 0.1) / 2.
    assert (row["diff_ce"], row["diff_ce_n"], row["diff_ce_note"]) == (pytest.approx(0.2), 2, "n<3")
    assert row["gap_recovered"] == pytest.approx(0.2 / (98 - 90.5))
    assert (row["diff_ce_low"], row["diff_ce_p"], row["bold"]) == (None, None, False)
    assert (row["top1_low"], row["top1_note"]) == (None, "n<3")
    assert (row["gap_recovered_n"], row["gap_recovered_note"]) == (2, "n<5")
    assert (row["time_vs_ce"], row["time_vs_ce_n"]) == (2.0, 2)
    problem = board.problems[0]
    assert (problem.row, problem.seeds, problem.kind) == ("fitnets beta=100 stage=1", (2,), "failed")
    assert problem.reason == "the loss became NaN in epoch 3"


def test_the_baseline_stands_at_nothing_gained(sweep: list[Record]) -> None:
    row = named(make_board(sweep).frame, "ce")
    assert (row["diff_ce"], row["diff_ce_note"], row["bold"]) == (None, "baseline", False)
    assert (row["gap_recovered"], row["gap_recovered_n"], row["time_vs_ce"]) == (0.0, 3, 1.0)
    assert row["diff_soft"] == pytest.approx(-3.0)


def test_planned_cells_without_a_record_are_missing(cell: Factory, rows: Factory) -> None:
    planned = [cell(strategy, seed) for strategy in ("ce", "soft", "at") for seed in range(3)]
    board = make_board(rows({"ce": [900, 910, 890], "soft": [930]}), planned)
    soft, at = named(board.frame, "soft"), named(board.frame, "at")
    assert (soft["seeds"], soft["done"], soft["missing"]) == (3, 1, 2)
    assert (at["rank"], at["seeds"], at["missing"], at["top1"], at["diff_ce_note"]) == (
        None,
        3,
        3,
        None,
        "no seed done",
    )
    assert [(one.row, one.seeds, one.kind) for one in board.problems] == [
        ("soft alpha=0.9 temperature=4", (1, 2), "missing"),
        ("at", (0, 1, 2), "missing"),
    ]


def test_differences_use_shared_seeds_only(cell: Factory, record: Factory) -> None:
    records = [record(cell("ce", seed), correct) for seed, correct in ((0, 900), (1, 910))]
    records += [record(cell("soft", seed), correct) for seed, correct in ((1, 930), (2, 990))]
    records += [record(cell("at", 5), 950)]
    frame = make_board(records).frame
    soft, at = named(frame, "soft"), named(frame, "at")
    assert (soft["done"], soft["diff_ce_n"], soft["diff_ce"]) == (2, 1, pytest.approx(2.0))
    assert (at["diff_ce_n"], at["diff_ce"], at["diff_ce_note"]) == (0, None, "no shared seed")
    assert at["gap_recovered_note"] == "no shared seed"


def test_holm_is_over_the_strategies_of_a_pair(rows: Factory) -> None:
    results = {"ce": [900, 910, 890], "soft": [930, 936, 924], "at": [905, 912, 899]}
    frame = make_board(rows(results) + rows({"rkd": [800, 810, 850]}, student="resnet14")).frame
    soft, at = named(frame, "soft"), named(frame, "at")
    assert soft["diff_ce_p_holm"] == pytest.approx(2 * soft["diff_ce_p"])
    assert at["diff_ce_p_holm"] == pytest.approx(at["diff_ce_p"])
    assert named(frame, "rkd")["diff_ce_note"] == "no ce row"


def test_equal_means_share_a_rank(rows: Factory) -> None:
    frame = make_board(rows({"ce": [900, 902], "at": [901, 901], "soft": [930, 930], "rkd": [890, 890]})).frame
    assert list(zip(frame["strategy"], frame["rank"], strict=True)) == [("soft", 1), ("at", 2), ("ce", 2), ("rkd", 4)]


@pytest.mark.parametrize("by", ["pair", "dataset", "student", "teacher", "strategy"])
def test_the_order_of_records_changes_nothing(by: str, sweep: list[Record], cell: Factory, rows: Factory) -> None:
    records = sweep + rows({"ce": [940], "soft": [950]}, student="resnet14", teacher="vit")
    planned = [cell("at", seed) for seed in range(3)]
    expected = make_board(records, planned, by=by)
    draw = random.Random(0)
    for _ in range(5):
        draw.shuffle(records)
        draw.shuffle(planned)
        board = make_board(records, planned, by=by)
        pd.testing.assert_frame_equal(board.frame, expected.frame)
        assert (board.groups, board.problems) == (expected.groups, expected.problems)


def test_only_equal_recipes_share_a_group_and_titles_say_what_differs(rows: Factory) -> None:
    longer = Recipe(name="quick+epochs=20", epochs=20, batch_size=64)
    results = {"ce": [900, 910, 890], "soft": [930, 936, 924]}
    board = make_board(rows(results) + rows({"ce": [950], "soft": [940]}, recipe=longer))
    assert [group.apart for group in board.groups] == [
        "quick",
        "quick+epochs=20",
    ]
    assert [group.full_title for group in board.groups] == [
        "digits 8x8: resnet20 -> resnet8, quick",
        "digits 8x8: resnet20 -> resnet8, quick+epochs=20",
    ]
    assert list(board.frame["group"]) == [0, 0, 1, 1]
    assert list(board.frame["rank"]) == [1, 2, 1, 2]
    assert list(board.frame["diff_ce"].dropna()) == pytest.approx([3.0, -1.0])


@pytest.mark.parametrize("by", ["pair", "dataset"])
def test_other_data_protocol_init_or_evaluation_is_another_group(
    by: str, cell: Factory, record: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdzoo.board.table.EVALUATION", 2)
    data = cell().data
    changes: list[dict[str, Any]] = [
        {"data": data.model_copy(update={"fingerprint": "beef"})},
        {"data": data.model_copy(update={"img_size": (16, 16)})},
        {"protocol": 2},
        {"init": "pretrained"},
    ]
    records = [record(cell("ce"))] + [record(cell("ce", **change)) for change in changes]
    records.append(record(cell("ce"), evaluation=2))
    board = make_board(records, by=by)
    assert len(board.groups) == len(board.frame) == 6
    assert sum(group.outdated for group in board.groups) == 5
    assert len({(group.title, group.apart) for group in board.groups}) == 6


def test_a_missing_seed_joins_its_row_as_it_was_evaluated(cell: Factory, record: Factory) -> None:
    board = make_board([record(cell("ce", 0), evaluation=2)], [cell("ce", 0), cell("ce", 1)])
    assert list(board.frame["seeds"]) == [2]
    assert list(board.frame["missing"]) == [1]
    assert list(board.frame["evaluation"]) == [2]


@pytest.mark.parametrize("planned", [True, False])
def test_a_seed_that_only_an_older_evaluation_measured_is_missing_in_the_newest(
    planned: bool, cell: Factory, record: Factory
) -> None:
    """Whether or not it is known to be planned: its record says that it was asked for."""
    cells = [cell("ce", seed) for seed in range(3)]
    records = [record(one, evaluation=1 if one.seed == 2 else 2) for one in cells]
    board = make_board(records, cells if planned else [])
    columns = board.frame[["evaluation", "seeds", "done", "missing"]]
    assert sorted(columns.itertuples(index=False, name=None)) == [(1, 1, 1, 0), (2, 3, 2, 1)]
    (problem,) = board.problems
    assert (problem.kind, problem.seeds) == ("missing", (2,))


def test_trained_teachers_and_trials_are_no_rows(cell: Factory, record: Factory) -> None:
    trial = record(cell("ce", kind="trial"), test=None, agreement=None)
    records = [record(cell("ce")), trial, record(cell("ce", kind="teacher", teacher=None))]
    board = make_board(records, [cell("soft", kind="trial")])
    assert list(board.frame["seeds"]) == [1]


def test_a_row_without_a_teacher_serves_every_pair_of_its_student(
    cell: Factory, record: Factory, rows: Factory
) -> None:
    records = [record(cell("ce", seed, teacher=None), 900 + seed, agreement=None) for seed in range(3)]
    records += rows({"soft": [930, 931, 935]}) + rows({"soft": [920, 931, 925]}, teacher="vit")
    frame = make_board(records).frame
    assert list(zip(frame["teacher"], frame["strategy"], strict=True)) == [
        ("resnet20", "soft"),
        ("resnet20", "ce"),
        ("vit", "soft"),
        ("vit", "ce"),
    ]
    assert list(frame["diff_ce"].dropna()) == pytest.approx([3.1, 2.433333333333])
    assert list(frame["retention"]) == pytest.approx([93.2 / 98, 90.1 / 98, 92.533333333 / 98, 90.1 / 98])


def test_names_grow_only_where_they_are_ambiguous(cell: Factory, record: Factory) -> None:
    strategies: list[dict[str, Any]] = [
        {"strategy": "ce"},
        {"strategy": "soft"},
        {"strategy": "soft", "distribution": "kd-extra"},
        {"strategy": "other", "distribution": "kd-extra"},
        {"strategy": "at"},
        {"strategy": "at", "revision": "2"},
    ]
    frame = make_board([record(cell(**values)) for values in strategies]).frame
    assert sorted(frame["strategy"]) == ["at@1", "at@2", "ce", "kd-extra:other", "kd-extra:soft", "kdzoo:soft"]


def test_parameters_make_rows_of_their_own(cell: Factory, record: Factory) -> None:
    params: list[dict[str, Any]] = [{"beta": 1.0}, {"beta": 2.0}, {"beta": 1}, {"beta": True}]
    frame = make_board([record(cell("at", params=values)) for values in params]).frame
    assert sorted(frame["params"]) == ['{"beta":1.0}', '{"beta":1}', '{"beta":2.0}', '{"beta":true}']


def test_teachers_of_one_model_are_told_apart(cell: Factory, record: Factory) -> None:
    model = ModelRef(name="resnet20")
    recipe = cell().recipe
    teachers = [
        TeacherRef(model=model, weights="pretrained"),
        TeacherRef(model=model, weights="trained", recipe=recipe, seed=0),
        TeacherRef(model=model, weights="trained", recipe=recipe, seed=1),
    ]
    frame = make_board([record(cell("soft", teacher=teacher)) for teacher in teachers], by="dataset").frame
    assert len(set(frame["teacher"])) == 3
    assert "resnet20 (weights=pretrained)" in frame["teacher"].str.replace(", .*\\)", ")", regex=True).tolist()


def test_the_same_network_on_another_dataset_is_no_namesake(cell: Factory, record: Factory) -> None:
    recipe = cell().recipe
    longer = recipe.model_copy(update={"name": "long", "epochs": 99})
    other = cell().data.model_copy(update={"name": "clothes"})
    teachers = [
        TeacherRef(model=ModelRef(name="resnet20"), weights="trained", recipe=one, seed=0) for one in (recipe, longer)
    ]
    apart = [record(cell("soft", teacher=teachers[0])), record(cell("soft", teacher=teachers[1], data=other))]
    assert set(make_board(apart, by="dataset").frame["teacher"]) == {"resnet20"}
    mixed = [record(cell("soft", teacher=teacher)) for teacher in teachers]
    assert set(make_board(mixed, by="dataset").frame["teacher"]) == {"resnet20 (quick)", "resnet20 (long)"}


def test_a_table_of_a_dataset_is_called_by_the_pair_that_it_has(rows: Factory) -> None:
    one = rows({"ce": [900], "soft": [910]})
    two = rows({"ce": [900], "soft": [910]}, student="resnet14")
    assert [group.title for group in make_board(one, by="dataset").groups] == ["digits 8x8: resnet20 -> resnet8"]
    assert [group.title for group in make_board(one + two, by="dataset").groups] == [
        "digits 8x8: resnet20 -> 2 students"
    ]
    three = rows({"ce": [900], "soft": [910]}, teacher="vit")
    assert [group.title for group in make_board(one + three, by="dataset").groups] == ["digits 8x8"]


def test_teachers_that_another_revision_trained_are_told_apart(cell: Factory, record: Factory) -> None:
    strategies = [cell("ce", revision=revision).strategy for revision in ("1", "2")]
    teachers = [cell().teacher.model_copy(update={"strategy": strategy}) for strategy in strategies]
    frame = make_board([record(cell("soft", teacher=teacher)) for teacher in teachers]).frame
    assert list(frame["teacher"]) == ["resnet20 (strategy.revision=1)", "resnet20 (strategy.revision=2)"]


def test_seconds_compare_only_on_equal_machines(cell: Factory, record: Factory) -> None:
    records = [record(cell("ce", seed), seconds=10.0) for seed in range(2)]
    records += [record(cell("soft", 0), seconds=15.0), record(cell("soft", 1), seconds=90.0, threads=8)]
    records += [record(cell("at", 0), seconds=15.0, threads=8)]
    frame = make_board(records).frame
    soft, at = named(frame, "soft"), named(frame, "at")
    assert (soft["time_vs_ce"], soft["time_vs_ce_n"]) == (1.5, 1)
    assert (at["time_vs_ce"], at["time_vs_ce_n"], at["time_vs_ce_note"]) == (None, 0, "no shared seed")


@pytest.mark.parametrize(
    ("ce", "soft", "expected"),
    [
        # Ratios 1.5, 2.0, 1.6: the median, though their mean and the ratio of the sums are higher.
        ([10.0, 10.0, 10.0], [15.0, 20.0, 16.0], (1.6, 1.5, 2.0, "")),
        ([10.0, 12.0, 15.0], [15.0, 18.0, 22.5], (1.5, 1.5, 1.5, "")),
        ([10.0, 10.0, 10.0], [15.0, 23.0, 16.0], (None, None, None, "unsteady")),
        ([10.0, 15.1, 10.0], [15.0, 15.0, 15.0], (None, None, None, "unsteady")),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], (None, None, None, "no shared seed")),
    ],
)
def test_times_are_compared_where_they_are_steady(
    ce: list[float], soft: list[float], expected: tuple[Any, ...], cell: Factory, record: Factory
) -> None:
    records = [
        record(cell(strategy, seed), seconds=took)
        for strategy, seconds in (("ce", ce), ("soft", soft))
        for seed, took in enumerate(seconds)
    ]
    row = named(make_board(records).frame, "soft")
    names = ("time_vs_ce", "time_vs_ce_low", "time_vs_ce_high", "time_vs_ce_note")
    assert tuple(row[name] for name in names) == pytest.approx(expected)
    text = board_text(records, explain=True)
    assert ("unsteady: no relative time, because" in text) == (expected[-1] == "unsteady")


def test_steadiness_is_that_of_one_machine(cell: Factory, record: Factory) -> None:
    """Seeds on two machines take what these take; each is compared with its own."""
    records = [
        record(cell(strategy, seed), seconds=seconds * (1 + 9 * seed), threads=2 - seed)
        for strategy, seconds in (("ce", 10.0), ("soft", 20.0))
        for seed in (0, 1)
    ]
    row = named(make_board(records).frame, "soft")
    assert (row["time_vs_ce"], row["time_vs_ce_n"]) == (2.0, 2)


def test_a_gap_needs_a_teacher_above_the_baseline(cell: Factory, record: Factory) -> None:
    records = [
        record(cell(strategy, seed), 900 + seed, teacher_correct1=850) for strategy in ("ce", "at") for seed in (0, 1)
    ]
    row = named(make_board(records).frame, "at")
    assert (row["gap_recovered"], row["gap_recovered_note"]) == (None, "teacher not above baseline")
    assert row["retention"] > 1


def test_two_results_of_one_cell_are_remarked(cell: Factory, record: Factory, failure: Factory) -> None:
    one = cell("ce")
    earlier = record(one, 900, ended="2026-01-01")
    records = [earlier, record(one, 910, ended="2026-01-02"), failure(one), earlier]
    for order in itertools.permutations(records):
        board = make_board(order)
        assert list(board.frame["top1"]) == [91.0]
        assert list(board.frame["done"]) == [1]
        assert board.remarks == ("cells with different results, of which the one that ended last is used: 1",)
    assert make_board([records[0], records[0]]).remarks == ()


def test_teachers_measured_differently_are_remarked(cell: Factory, record: Factory) -> None:
    records = [record(cell("ce", 0), teacher_correct1=980), record(cell("ce", 1), teacher_correct1=984)]
    board = make_board(records)
    assert list(board.frame["teacher_top1"]) == pytest.approx([98.2])
    assert "98.00 to 98.40" in board.remarks[0]


@pytest.mark.parametrize(
    ("by", "titles"),
    [
        ("pair", ["digits 8x8: resnet20 -> resnet14", "digits 8x8: resnet20 -> resnet8", "digits 8x8: vit -> resnet8"]),
        ("dataset", ["digits 8x8"]),
        ("student", ["digits 8x8: student resnet14", "digits 8x8: student resnet8"]),
        ("teacher", ["digits 8x8: teacher resnet20", "digits 8x8: teacher vit"]),
        ("strategy", ["digits 8x8: strategy ce", "digits 8x8: strategy soft"]),
    ],
)
def test_by_says_what_a_table_holds(by: str, titles: list[str], rows: Factory) -> None:
    results = {"ce": [900], "soft": [910]}
    records = rows(results) + rows(results, student="resnet14") + rows(results, teacher="vit")
    board = make_board(records, by=by)
    assert [group.title for group in board.groups] == titles
    assert len(board.frame) == 6
    assert set(board.frame["diff_ce"].dropna().round(9)) == {1.0}


def test_an_empty_board_has_all_columns() -> None:
    board = make_board([])
    assert list(board.frame.columns) == [column.name for column in COLUMNS]
    assert (len(board.frame), board.groups, board.problems) == (0, (), ())


def test_an_unknown_grouping_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean dataset"):
        make_board([], by="datasets")


def test_records_are_consumed_as_a_stream(cell: Factory, record: Factory) -> None:
    cells: list[Cell] = [cell("ce", seed) for seed in range(3)]
    assert list(make_board((record(one) for one in cells), iter(cells)).frame["done"]) == [3]


@pytest.mark.parametrize(
    ("name", "fit", "tune", "words"),
    [
        ("digits", 5400, 600, "5400 fit, 600 tune, 1000 test samples, 10 classes"),
        (
            "fashion_mnist[:6000]",
            5400,
            600,
            "5400 fit, 600 tune (a stratified 6,000 of the training samples), 1000 test samples, 10 classes",
        ),
        # With a tune split of its own, the subset is all of fit.
        (
            "folder:photos[:6000]",
            6000,
            700,
            "6000 fit (a stratified 6,000 of the training samples), 700 tune, 1000 test samples, 10 classes",
        ),
        ("made-up[:7]", 5400, 600, "5400 fit, 600 tune, 1000 test samples, 10 classes"),
    ],
)
def test_a_subset_of_the_training_samples_is_told(name: str, fit: int, tune: int, words: str, rows: Factory) -> None:
    data = rows({"ce": [900]})[0].cell.data.model_copy(update={"name": name, "fit": fit, "tune": tune})
    (group,) = make_board(rows({"ce": [900]}, data=data)).groups
    assert group.data == words


def test_balanced_rows_stand_beside_the_others_and_are_no_baseline(
    cell: Callable[..., Cell], record: Callable[..., Record], rows: Callable[..., list[Record]]
) -> None:
    records = rows({"ce": [900, 902, 901], "soft": [880, 884, 885]})
    for ratio, scores in ((1.0, [920, 930, 925, 928]), (0.5, [910, 911, 912])):
        for seed, correct in enumerate(scores):
            balanced = cell("soft", seed, balance=Balance(ratio=ratio, rule=1))
            cost = {"train": 10.0, "teacher": 2.5, "evaluate": 1.0, "peak_memory": 1_000_000, "balance": 0.5}
            records.append(record(balanced, correct, balance={"soft": 0.25}, cost=cost))
    board = make_board(records)
    assert len(board.groups) == 1
    found = {(row["strategy"], row["params"]): row for row in board.rows}
    one = found["soft@balanced", '{"alpha":0.9,"balance":1.0,"temperature":4.0}']
    half = found["soft@balanced", '{"alpha":0.9,"balance":0.5,"temperature":4.0}']
    assert (one["rank"], half["rank"]) == (1, 2)
    assert (one["variant"], one["diff_soft_to"]) == ("", "soft alpha=0.9 temperature=4")
    assert one["diff_soft"] == pytest.approx((92.0 + 93.0 + 92.5) / 3 - (88.0 + 88.4 + 88.5) / 3)
    assert [one["balance_seconds"], found["ce", "{}"]["balance_seconds"]] == [0.5, None]
    text = board_text(records, explain=True, width=200)
    assert "soft@balanced alpha=0.9 balance=0.5 temperature=4" in text
    assert "@balanced: the strategy's terms are scaled" in text
    assert "balance" not in board_text(records[:6], explain=True)
