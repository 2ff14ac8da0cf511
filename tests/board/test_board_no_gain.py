"""What a terminal prints where distillation gains nothing: why that can be, and no share of a lead by chance."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from board_rows import by_variant
from scipy.stats import binomtest

from kdzoo.board.intervals import wilson_low
from kdzoo.board.render import board_text
from kdzoo.board.table import make_board
from kdzoo.recipe import Recipe

Factory = Callable[..., Any]

CE = [900, 910, 890]
WORSE = [880, 889, 871]
LONG = {"recipe": Recipe(name="long", epochs=80, batch_size=64)}


def no_gain(text: str) -> list[str]:
    """The lines that say why, each with its reasons."""
    return re.findall(r"^no gain  (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("results", [{"soft": [930, 936, 924]}, {"soft": [930, 936]}, {"at": WORSE, "soft": [990] * 3}])
def test_a_board_with_a_gain_needs_no_reason(results: dict[str, list[int]], rows: Factory) -> None:
    assert no_gain(board_text(rows({"ce": CE} | results))) == []


def test_a_board_that_compares_nothing_needs_no_reason(rows: Factory) -> None:
    assert no_gain(board_text(rows({"ce": CE}))) == no_gain(board_text(rows({"soft": CE}))) == []


def test_a_teacher_below_its_student_is_the_reason(cell: Factory, record: Factory) -> None:
    records = [
        record(cell(name, seed), right, teacher_correct1=880, family="feature")
        for name, rights in {"ce": CE, "at": WORSE}.items()
        for seed, right in enumerate(rights)
    ]
    assert no_gain(board_text(records)) == [
        "the teacher (88.00 %) is not above ce (90.00 %); papers' weights are for 32x32 images, not 8x8 (--tune)"
    ]


def test_a_teacher_above_by_chance_is_the_reason(cell: Factory, record: Factory) -> None:
    records = [
        record(cell(name, seed), right, teacher_correct1=905)
        for name, rights in {"ce": CE, "soft": WORSE}.items()
        for seed, right in enumerate(rights)
    ]
    assert no_gain(board_text(records)) == ["the teacher's lead may be chance (1000 test samples)"]


def test_a_short_training_is_the_reason_where_the_teacher_knows_more(rows: Factory) -> None:
    # 1,078 samples in batches of 64 are 16 steps; the last, partial batch is dropped.
    assert no_gain(board_text(rows({"ce": CE, "soft": WORSE}))) == ["8 epochs (128 steps) may be too few"]
    assert no_gain(board_text(rows({"ce": CE, "soft": WORSE}, **LONG))) == [
        "3 seeds may be too few (--seeds), or the weights unfit (--tune)"
    ]


def test_weights_for_other_maps_are_the_reason_of_a_loss_of_a_strategy_on_maps(cell: Factory, record: Factory) -> None:
    def text(results: dict[str, list[int]], size: int) -> str:
        data = cell().data.model_copy(update={"img_size": (size, size)})
        return board_text(
            [
                record(cell(name, seed, data=data, **LONG), right, family="response" if name == "soft" else "feature")
                for name, rights in results.items()
                for seed, right in enumerate(rights)
            ]
        )

    assert "weights are for 32x32 images, not 16x16 (--tune)" in text({"ce": CE, "at": WORSE}, 16)
    assert "32x32 images" not in text({"ce": CE, "at": WORSE}, 32)
    assert "32x32 images" not in text({"ce": CE, "soft": WORSE}, 16)
    assert "32x32 images" not in text({"ce": CE, "at": [890, 915, 880]}, 16)  # its interval includes 0


def test_each_pair_has_its_own_line_and_a_mixed_table_has_none(rows: Factory) -> None:
    records = rows({"ce": CE, "soft": WORSE}) + rows({"ce": CE, "soft": [930, 936, 924]}, student="resnet14")
    assert len(no_gain(board_text(records))) == 1
    assert no_gain(board_text(records, by="dataset")) == []


@pytest.mark.parametrize("right", [0, 3, 355, 359])
def test_the_lower_end_of_wilsons_interval_is_scipys(right: int) -> None:
    expected = binomtest(right, 359).proportion_ci(method="wilson").low
    assert wilson_low(100 * right / 359, 359) == pytest.approx(100 * expected, abs=1e-9)


@pytest.mark.parametrize(("teacher", "gap"), [(918, "-"), (919, "5%")])
def test_a_lead_that_may_be_chance_has_no_share_on_a_terminal(
    teacher: int, gap: str, cell: Factory, record: Factory
) -> None:
    # ce is right on 90.00 %; of 1,000 samples the intervals of 91.8 % and 91.9 % begin at 89.94 % and 90.05 %.
    records = [
        record(cell(name, seed), right, teacher_correct1=teacher)
        for name, rights in {"ce": CE, "soft": [901, 911, 891]}.items()
        for seed, right in enumerate(rights)
    ]
    printed = board_text(records)
    assert re.findall(r"3/3 +(\S+) ", printed) == [gap, "0%" if gap != "-" else "-"]
    assert ("gap -: " in board_text(records, explain=True)) == (gap == "-")
    row = by_variant(make_board(records))["soft", ""]
    assert math.isclose(row["gap_recovered"], 1 / (teacher / 10 - 90) / 10)  # the numbers keep it
    assert f"{100 * row['gap_recovered']:.0f}%" in board_text(records, format="md")
