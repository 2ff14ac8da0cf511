from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from board_rows import by_variant

from kdzoo.board.render import board_text
from kdzoo.board.table import make_board
from kdzoo.record import Record
from kdzoo.space import Range
from kdzoo.study import Study

Factory = Callable[..., Any]

TEMPERATURE = {"soft.temperature": Range(low=1, high=20, log=True)}
LR = {"recipe.lr": Range(low=0.005, high=0.5, log=True)}
SHARED = [900, 910, 890]


@pytest.fixture
def studies(study: Factory) -> dict[str, Study]:
    at = {"at.beta": Range(low=1, high=9), **LR}
    return {
        "ce": study("ce", space=LR, best={"recipe.lr": 0.1}),
        "soft": study(space={**TEMPERATURE, **LR}, best={"soft.temperature": 8.0, "recipe.lr": 0.1}),
        "at": study("at", params={"beta": 2.0}, space=at, best={"at.beta": 3.0, "recipe.lr": 0.2}),
    }


@pytest.fixture
def records(studies: dict[str, Study], rows: Factory, finals: Factory) -> list[Record]:
    records: list[Record] = rows({"ce": SHARED, "soft": [930, 936, 924]})
    records += rows({"at": [905, 912, 899]}, params={"beta": 2.0})
    records += finals(studies["ce"], [915, 922, 905]) + finals(studies["soft"], [950, 955, 947])
    records += finals(studies["at"], [925, 930, 921])
    return records


def test_tuned_rows_are_compared_with_tuned_baselines(studies: dict[str, Study], records: list[Record]) -> None:
    found = by_variant(make_board(records, studies=studies.values()))
    tuned_ce, tuned_soft = "ce tuned recipe.lr=0.1", "soft tuned alpha=0.9 temperature=8 recipe.lr=0.1"
    default_soft = "soft default alpha=0.9 temperature=4"
    assert {key: (row["diff_ce_to"], row["diff_soft_to"]) for key, row in found.items()} == {
        ("soft", "tuned"): (tuned_ce, default_soft),
        ("soft", "default"): ("ce default", default_soft),
        ("at", "tuned"): (tuned_ce, tuned_soft),
        ("at", "default"): ("ce default", default_soft),
        ("ce", "tuned"): ("ce default", tuned_soft),
        ("ce", "default"): ("ce default", default_soft),
    }
    soft = found["soft", "tuned"]
    # 95.0 - 91.5, 95.5 - 92.2, 94.7 - 90.5: mean 11/3, squared deviations (1/36 + 121/900 + 64/225) / 2.
    mean, sd = 11 / 3, math.sqrt(((3.5 - 11 / 3) ** 2 + (3.3 - 11 / 3) ** 2 + (4.2 - 11 / 3) ** 2) / 2)
    reach = 4.302653 * sd / math.sqrt(3)
    assert (soft["diff_ce"], soft["diff_ce_n"]) == (pytest.approx(mean), 3)
    assert (soft["diff_ce_low"], soft["diff_ce_high"]) == pytest.approx((mean - reach, mean + reach), abs=1e-5)
    assert soft["diff_ce_to_variant"] == "tuned"
    assert soft["gap_recovered"] == pytest.approx(mean / (98 - (91.5 + 92.2 + 90.5) / 3))
    ce = found["ce", "tuned"]
    assert (ce["diff_ce"], ce["diff_ce_to_variant"]) == (pytest.approx((1.5 + 1.2 + 1.5) / 3), "default")
    assert ce["gap_recovered"] == pytest.approx(1.4 / 8)
    assert found["ce", "default"]["diff_ce_note"] == "baseline"


def test_seconds_are_compared_with_the_same_ce(studies: dict[str, Study], record: Factory) -> None:
    records = [
        record(studies[name].finals([0])[0], seconds=seconds) for name, seconds in (("ce", 20.0), ("soft", 30.0))
    ]
    records.append(record(studies["ce"].plan.final({}, 0), seconds=10.0))
    found = by_variant(make_board(records, studies=studies.values()))
    assert found["soft", "tuned"]["time_vs_ce"] == 1.5
    assert found["ce", "tuned"]["time_vs_ce"] == 2.0


def test_one_family_of_p_values_holds_all_rows_of_the_pair(studies: dict[str, Study], records: list[Record]) -> None:
    frame = make_board(records, studies=studies.values()).frame
    ordered = frame["diff_ce_p"].dropna().sort_values()
    assert len(ordered) == 5
    adjusted, largest = [], 0.0
    for place, p in enumerate(ordered):
        largest = max(largest, min(1.0, p * (5 - place)))
        adjusted.append(largest)
    assert list(frame["diff_ce_p_holm"][ordered.index]) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    "changes",
    [
        {"trials": 4},
        {"epochs": 6},
        {"pruner": "median"},
        {"batch": 3},
        {"tuner": 2},
        {"space": {"recipe.weight_decay": Range(low=1e-5, high=1e-2, log=True)}},
    ],
)
def test_another_budget_is_no_tuned_baseline(
    changes: dict[str, Any], studies: dict[str, Study], study: Factory, rows: Factory, finals: Factory
) -> None:
    space = changes.get("space", LR)
    other = study("ce", **({"space": space, "best": dict.fromkeys(space, 0.01)} | changes))
    records = rows({"ce": SHARED}) + finals(studies["soft"], [950, 955, 947]) + finals(other, [990, 991, 992])
    found = by_variant(make_board(records, studies=[other, studies["soft"]]))
    assert found["soft", "tuned"]["diff_ce_to"] == "ce default"
    assert found["soft", "tuned"]["diff_ce"] == pytest.approx((5.0 + 4.5 + 5.7) / 3)


def test_of_two_tuned_rows_of_ce_that_of_the_same_budget_counts(
    studies: dict[str, Study], study: Factory, rows: Factory, finals: Factory
) -> None:
    other = study("ce", space=LR, best={"recipe.lr": 0.3}, trials=4)
    records = rows({"ce": SHARED}) + finals(studies["soft"], [950, 955, 947])
    records += finals(other, [990, 991, 992, 993]) + finals(studies["ce"], [915, 922, 905])
    found = by_variant(make_board(records, studies=[other, *studies.values()]))
    assert found["soft", "tuned"]["diff_ce_to"] == "ce tuned (3 trials) recipe.lr=0.1"


def test_a_row_by_default_is_not_compared_with_a_tuned_one(study: Factory, rows: Factory, finals: Factory) -> None:
    ce, soft = study("ce", space=LR, best={"recipe.lr": 0.1}), study(best={"soft.temperature": 8.0})
    records = rows({"at": SHARED}) + finals(ce, [915, 922, 905]) + finals(soft, [930, 936, 924])
    row = by_variant(make_board(records, studies=[ce, soft]))["at", ""]
    assert (row["diff_ce"], row["diff_ce_to"], row["diff_ce_note"]) == (None, "", "no default ce row")
    assert row["gap_recovered_note"] == "no default ce row"
    assert (row["diff_soft"], row["diff_soft_to"], row["diff_soft_note"]) == (None, "", "no default soft row")
    # Without its study, too, a tuned recipe is seen to be one.
    assert set(make_board(records).frame["diff_ce_note"]) == {"no default ce row"}


def test_the_text_marks_what_is_to_a_tuned_row(studies: dict[str, Study], records: list[Record]) -> None:
    text = board_text(records, studies=studies.values(), width=200, explain=True)
    lines = {line.split("  ")[1]: line for line in text.splitlines() if line[:1].isdigit()}
    marked = {name for name, line in lines.items() if "(tuned)" in line}
    assert {" ".join(name.split()[:2]) for name in marked} == {"soft tuned", "at tuned"}
    assert text.count("\n(tuned): ") == 1
