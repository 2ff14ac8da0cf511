"""What can be wrong is found before anything trains or is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from small_lab import FIT, prepare, run

from kdzoo import PairError, Phase, Setup, Strategy, UsageError
from kdzoo.bench.plan import BenchPlan
from kdzoo.errors import KdzooError


def _plan(out: Path, strategies: list[Any], **config: Any) -> BenchPlan:
    return prepare(out, strategies, **config).plan


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"optimizer": "adamv"}, "unknown optimizer 'adamv'; did you mean"),
        ({"mixup": 0.2, "batch_size": 15}, "need an even batch_size, not 15"),
        ({"augment.auto": "rand-m9"}, "augment.auto=rand-m9 works on datasets read from files"),
        ({"precision": "fp16"}, "--precision fp16 needs a GPU"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(recipe: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        _plan(tmp_path / "out", [], recipe=recipe)
    assert not (tmp_path / "out").exists()


def test_mixup_knows_that_a_batch_is_not_larger_than_the_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="even batch_size, not 33"):
        _plan(tmp_path / "out", [], dataset="quadrants[:33]", recipe={"mixup": 0.2, "batch_size": FIT})
    assert _plan(tmp_path / "out", [], dataset="quadrants[:34]", recipe={"mixup": 0.2, "batch_size": FIT}).cells


def test_a_hint_phase_that_leaves_no_main_phase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hint_epochs is 2, which leaves no epoch of 2"):
        _plan(tmp_path / "out", ["fitnets"], set={"fitnets.hint_epochs": 2})


def test_strategies_without_values_for_imagenet_are_named(tmp_path: Path) -> None:
    lines = _plan(tmp_path / "out", ["soft", "rkd", "soft+at", "rkd+sp"], defaults="imagenet").inputs
    assert lines[0].startswith("values for ImageNet: soft alpha=0.5")
    assert lines[1] == "no values for ImageNet, defaults used: rkd, at, sp"
    mine = _plan(tmp_path / "out", ["rkd"], defaults="imagenet", set={"rkd.angle": 2}).inputs
    assert mine == ["values for ImageNet: no strategy of this bench has any"]
    assert not _plan(tmp_path / "out", ["rkd"]).inputs


class TooLong(Strategy):
    name = "too-long"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (Phase("main", epochs), Phase("more", 1))


def test_phases_must_share_the_recipes_epochs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the phases of too-long take 3 epochs, and the recipe has 2"):
        _plan(tmp_path / "out", [TooLong])


class Unfit(Strategy):
    name = "unfit"

    def build(self, setup: Setup) -> None:
        raise PairError("these two do not fit")


def test_a_pair_that_a_strategy_cannot_serve_is_named_and_the_others_run(tmp_path: Path, teacher_file: str) -> None:
    bench = run(tmp_path, [Unfit, "soft"], teacher_weights=teacher_file, epochs=1)
    (refusal,) = bench.plan.refused
    assert (refusal.strategy, refusal.reason, refusal.data) == ("unfit", "these two do not fit", "quadrants")
    assert (str(refusal.teacher), str(refusal.student)) == ("test_efficientnet", "test_resnet")
    assert [record.cell.strategy.name for record in bench.records] == ["ce", "soft"]
    assert all(record.status == "done" for record in bench.records)


def test_cells_of_all_pairs_datasets_and_seeds_each_once(tmp_path: Path) -> None:
    plan = _plan(
        tmp_path,
        ["soft", "ce", "soft"],
        dataset="quadrants,quadrants[:32]",
        student="test_resnet,test_efficientnet",
        seeds=2,
    )
    teachers = [cell for cell in plan.cells if cell.kind == "teacher"]
    students = [cell for cell in plan.cells if cell.kind == "student"]
    assert plan.cells == teachers + students
    assert len(teachers) == 2  # one for each dataset
    assert len(students) == 2 * 2 * 2 * 2
    assert len({cell.id for cell in plan.cells}) == len(plan.cells)
    assert {cell.strategy.name for cell in students} == {"ce", "soft"}


def test_a_wrong_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KdzooError, match=r"unknown parameter of soft 'temprature'; did you mean temperature"):
        _plan(tmp_path / "out", ["soft"], set={"soft.temprature": 2.0})
    with pytest.raises(KdzooError, match=r"soft.alpha must be a number .*not 2"):
        _plan(tmp_path / "out", ["soft"], set={"soft.alpha": 2.0})


@pytest.mark.parametrize("method", ["build", "phases"])
def test_a_plugins_bug_is_told_while_planning_and_fails_its_own_cells(method: str, tmp_path: Path) -> None:
    def buggy(self: Strategy, *_: Any) -> Any:
        raise IndexError("no ninth stage")

    broken = type("Broken", (Strategy,), {"name": "broken", method: buggy})
    bench = run(tmp_path, [broken, "soft"], epochs=1, teacher_epochs=6)
    (told,) = bench.plan.broken
    assert told.strategy == "broken"
    assert re.fullmatch(r"IndexError: no ninth stage \(test_plan\.py:\d+\)", told.reason)
    assert not bench.plan.refused
    assert bench.only("broken").reason == told.reason
    assert "raise IndexError" in bench.only("broken").traceback
    assert bench.only("soft").status == "done"
