"""Boards of measures that are no accuracies: negative ones, ones of which the lowest is best, and costs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdzoo
from kdzoo.board.render import board_text
from kdzoo.board.table import make_board
from kdzoo.leaderboard.charts.comparison import forest_chart
from kdzoo.leaderboard.charts.scores import accuracy_chart
from kdzoo.leaderboard.check.groups import differences
from kdzoo.measures import Measure
from kdzoo.record import Record

Factory = Callable[..., Any]

MATTHEWS = Measure(name="mcc", label="Matthews", digits=3, low=-1, high=1, main=True)
LOSS = Measure(name="loss", label="loss", digits=3, best="lowest", low=0, main=True)
LATENCY = Measure(
    name="latency", unit="ms", best="lowest", low=0, volatile=True, help="mean latency, ms", shown=("frame", "more")
)
DISK = Measure(name="disk", unit="bytes", best="lowest", low=0, over_seeds="max", help="bytes on disk")


def scored(record: Record, main: Measure, value: float, teacher: float, *more: Measure, **extra: Any) -> Record:
    assert record.teacher is not None
    assert record.tune is not None
    assert record.test is not None
    mine, theirs = {main.name: value}, {main.name: teacher}
    taught = record.teacher.model_copy(
        update={"tune": record.teacher.tune | theirs, "test": record.teacher.test | theirs}
    )
    update = {
        "measures": (main, *more),
        "tune": record.tune | mine,
        "test": record.test | mine | extra.get("test", {}),
        "teacher": taught,
        "cost": (record.cost or {}) | extra.get("cost", {}),
    }
    return Record.model_validate(dict(record) | update)


def rows(record: Factory, cell: Factory, main: Measure, values: dict[str, list[float]], teacher: float) -> list[Record]:
    return [
        scored(record(cell(strategy, seed)), main, value, teacher)
        for strategy, found in values.items()
        for seed, value in enumerate(found)
    ]


def test_negative_scores_have_means_intervals_and_gaps(record: Factory, cell: Factory) -> None:
    values = {"ce": [-0.2, -0.1, -0.15, -0.2, -0.1], "soft": [0.1, 0.3, 0.15, 0.2, 0.25]}
    board = make_board(rows(record, cell, MATTHEWS, values, 0.5))
    soft, ce = board.frame.to_dict("records")
    assert (soft["strategy"], ce["strategy"]) == ("soft", "ce")
    assert (soft["mcc"], ce["mcc"], soft["diff_ce"]) == pytest.approx((0.2, -0.15, 0.35))
    assert ce["mcc_low"] < -0.15 < ce["mcc_high"]
    assert soft["gap_recovered"] == pytest.approx(0.35 / 0.65)
    assert soft["gap_recovered_low"] < 0.35 / 0.65 < soft["gap_recovered_high"]
    assert soft["retention"] == pytest.approx(0.4)
    text = board_text(rows(record, cell, MATTHEWS, values, 0.5))
    assert "-0.150" in text
    assert "+0.350" in text
    assert "points" not in text
    negative = make_board(rows(record, cell, MATTHEWS, values, -0.5)).frame.to_dict("records")
    assert all(row["retention"] != row["retention"] for row in negative)  # NaN: no share of what is below 0


def test_of_a_loss_the_lowest_ranks_first(record: Factory, cell: Factory) -> None:
    values = {"ce": [2.0, 2.1, 2.2, 2.1, 2.0], "soft": [1.5, 1.7, 1.6, 1.5, 1.6]}
    records = rows(record, cell, LOSS, values, 1.0)
    board = make_board(records)
    soft, ce = board.frame.to_dict("records")
    assert (soft["strategy"], soft["rank"], ce["rank"]) == ("soft", 1, 2)
    assert soft["diff_ce"] == pytest.approx(-0.5)
    assert soft["gap_recovered"] == pytest.approx(0.5 / 1.08)
    assert "loss: lower is better, so a difference below 0 is a gain" in board_text(records, explain=True)
    assert "loss: mean over finished seeds, test set, last epoch, lower is better" in board_text(records)
    found = board.frame.to_dict("records")
    plain = [{**row, "params": {}} for row in found]
    forest = forest_chart(plain, main=LOSS)
    chart = accuracy_chart(plain, main=LOSS)
    assert forest is not None
    assert chart is not None
    assert forest["title"]["subtitle"][0].startswith("Left of the line is better")
    assert "max(0, datum.low)" in str(chart)
    assert "min(" not in str(chart)


def test_ranks_over_pairs_follow_the_direction(record: Factory, cell: Factory) -> None:
    records = [
        scored(record(cell(strategy, seed, student=student)), LOSS, value + seed / 10, 1.0)
        for student in ("resnet8", "resnet14")
        for strategy, value in (("ce", 2.0), ("soft", 1.5), ("at", 1.8))
        for seed in range(3)
    ]
    text = board_text(records)
    over = text[text.index("mean rank ") :]
    assert over.index("  soft ") < over.index("  at ") < over.index("  ce ")
    assert "mean loss" in over


def test_what_belongs_to_a_deployed_form_has_its_place(record: Factory, cell: Factory) -> None:
    declared = (DISK, LATENCY)
    made = [
        scored(
            record(cell(strategy, seed)),
            MATTHEWS,
            0.5,
            0.9,
            *declared,
            test={"disk": 4096},
            cost={"latency": 1.5 + seed},
        )
        for strategy in ("ce", "soft")
        for seed in range(3)
    ]
    frame = make_board(made).frame
    assert list(frame["latency"]) == [2.5, 2.5]
    assert list(frame["disk"]) == [4096, 4096]
    assert "latency" in board_text(made, format="md")
    slower = made[0].model_copy(update={"cost": (made[0].cost or {}) | {"latency": 99.0}})
    assert differences(made[0].outcome(), slower.outcome(), declared=declared) == []
    larger = made[0].model_copy(update={"test": (made[0].test or {}) | {"disk": 4097}})
    assert differences(made[0].outcome(), larger.outcome(), declared=declared) == ["test.disk 4096 and 4097"]


@pytest.mark.parametrize(
    ("place", "values", "message"),
    [
        ("test", {"mcc": -1.5}, "test: Matthews cannot be -1.5"),
        ("test", {"f1": 0.5}, "test: f1 is not a declared measure"),
        ("test", {"latency": 0.5}, "test: latency is not a declared measure"),
        ("cost", {"disk": 5}, "cost: disk is not a measure of cost"),
        ("cost", {"latency": -5}, "cost: latency cannot be -5"),
    ],
)
def test_what_cannot_be_is_refused(
    place: str, values: dict[str, float], message: str, record: Factory, cell: Factory
) -> None:
    good = scored(record(cell("ce", 0)), MATTHEWS, 0.5, 0.9, LATENCY, DISK, test={"disk": 1})
    with pytest.raises(ValueError, match=re.escape(message)):
        Record.model_validate(dict(good) | {place: getattr(good, place) | values})


def test_no_other_module_names_the_main_measure_of_images() -> None:
    folder = Path(kdzoo.__file__).parent
    literal = re.compile(r"top-?1|correct1|correct5")
    files = [path for path in folder.rglob("*") if path.suffix in (".py", ".js", ".html")]
    found = [path.name for path in files if literal.search(path.read_text(encoding="utf-8"))]
    assert found == ["measures.py"]
