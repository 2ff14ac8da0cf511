"""Records as a bench would write them, made up so that every figure of a board can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kdzoo.cell import Cell
from kdzoo.measures import Scores, image_scores
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.space import Range
from kdzoo.study import Study, StudyPlan, Trial

RECIPE = Recipe(name="quick", epochs=8, batch_size=64)
DATA = DataRef(
    name="digits", fingerprint="f00d", num_classes=10, channels=1, img_size=(8, 8), fit=1078, tune=359, test=1000
)
PARAMS: dict[str, dict[str, Any]] = {
    "ce": {},
    "soft": {"alpha": 0.9, "temperature": 4.0},
    "fitnets": {"beta": 100.0, "stage": 1},
}
SIZES = {"resnet20": 270_000, "resnet8": 90_000, "resnet14": 180_000, "vit": 1_350_000}


def measures(correct1: int, n: int = 1000) -> Scores:
    return image_scores(n=n, correct1=correct1, correct5=n, nll=0.5, ece=2.0)


def make_cell(strategy: str = "ce", seed: int = 0, **changes: Any) -> Cell:
    teacher = changes.pop("teacher", "resnet20")
    if isinstance(teacher, str):
        teacher = TeacherRef(model=ModelRef(name=teacher), weights="trained", recipe=RECIPE, seed=0)
    params = changes.pop("params", PARAMS.get(strategy, {}))
    distribution = changes.pop("distribution", "kdzoo")
    revision = changes.pop("revision", "1")
    values: dict[str, Any] = {
        "kind": "student",
        "data": DATA,
        "student": ModelRef(name=changes.pop("student", "resnet8")),
        "teacher": teacher,
        "strategy": StrategyRef(name=strategy, distribution=distribution, revision=revision, params=params),
        "recipe": RECIPE,
        "seed": seed,
    }
    return Cell(**(values | changes))


def make_record(
    cell: Cell,
    correct1: int = 900,
    *,
    teacher_correct1: int = 980,
    seconds: float = 10.0,
    threads: int = 2,
    **changes: Any,
) -> Record:
    size = Size(parameters=SIZES.get(cell.student.name, 90_000), macs=1000)
    values: dict[str, Any] = {
        "id": cell.id,
        "status": "done",
        "cell": cell,
        "family": "response",
        "tune": measures(correct1),
        "test": measures(correct1),
        "agreement": 95.0,
        "student": size,
        "cost": {"train": seconds, "teacher": seconds / 4, "evaluate": 1.0, "peak_memory": 1_000_000},
        "environment": Environment(versions={"kdzoo": "0.1.0"}, device="cpu", threads=threads),
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:01:00Z",
        "command": "kdzoo bench",
    }
    if cell.teacher is not None:
        teacher_size = Size(parameters=SIZES.get(cell.teacher.model.name, 270_000), macs=4000)
        values["teacher"] = TeacherMeasures(
            size=teacher_size, tune=measures(teacher_correct1), test=measures(teacher_correct1)
        )
    values |= changes
    if (agreement := values.pop("agreement")) is not None and values["test"] is not None:
        values["test"] = {"agreement": agreement} | values["test"]
    return Record(**values)


def make_failure(cell: Cell, reason: str = "the loss became NaN in epoch 3") -> Record:
    return make_record(cell, status="failed", reason=reason, test=None, tune=None, cost=None, student=None)


def make_rows(results: dict[str, list[int]], **changes: Any) -> list[Record]:
    """Done records: correct answers of 1000 for each strategy and seed."""
    return [
        make_record(make_cell(strategy, seed, **changes), correct)
        for strategy, correct_by_seed in results.items()
        for seed, correct in enumerate(correct_by_seed)
    ]


SPACE = {"soft.temperature": Range(low=1, high=20, log=True)}


def make_study(strategy: str = "soft", *, states: Sequence[Any] = (), seconds: float = 4.0, **changes: Any) -> Study:
    """A study whose trial 1 wins with the values of ``best``, or trial 0 where there are none."""
    best = changes.pop("best", None)
    epochs = changes.pop("epochs", 5)
    one = make_cell(strategy, params=changes.pop("params", PARAMS.get(strategy, {})))
    values: dict[str, Any] = {
        "data": DATA,
        "teacher": one.teacher,
        "student": one.student,
        "strategy": one.strategy,
        "recipe": RECIPE,
        "trial_recipe": RECIPE.model_copy(update={"epochs": epochs}),
        "space": SPACE,
        "trials": 3,
    }
    plan = StudyPlan(**(values | changes))
    trials = []
    for number, state in enumerate(states or ["done"] * plan.trials):
        tried: dict[str, Any] = {
            name: one.low + number * (one.high - one.low) / 100 for name, one in plan.space.items()
        }
        top1 = 85.0
        if number == 0:
            tried, top1 = plan.defaults(), 90.0
        elif number == 1 and best:
            tried, top1 = best, 95.0
        trials.append(
            Trial(
                cell=plan.trial(tried).id,
                values=tried,
                state=state,
                curve=(50.0, top1) if state == "done" else (),
                seconds=seconds,
                reason="the loss became NaN" if state in ("failed", "pruned") else "",
            )
        )
    return Study(id=plan.id, plan=plan, trials=tuple(trials))


def make_finals(study: Study, correct_by_seed: Sequence[int]) -> list[Record]:
    """Records of a study's winner: correct answers of 1000 for each seed."""
    cells = study.finals(range(len(correct_by_seed)))
    return [make_record(final, correct) for final, correct in zip(cells, correct_by_seed, strict=True)]


@pytest.fixture
def cell() -> Callable[..., Cell]:
    return make_cell


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def failure() -> Callable[..., Record]:
    return make_failure


@pytest.fixture
def rows() -> Callable[..., list[Record]]:
    return make_rows


@pytest.fixture
def study() -> Callable[..., Study]:
    return make_study


@pytest.fixture
def finals() -> Callable[[Study, Sequence[int]], list[Record]]:
    return make_finals


@pytest.fixture
def sweep() -> list[Record]:
    """One pair: ce 90 %, soft above it on every seed, fitnets with one failed seed."""
    records = make_rows({"ce": [900, 910, 890], "soft": [930, 936, 924]})
    records += [
        make_record(make_cell("fitnets", 0), 905, seconds=20.0),
        make_record(make_cell("fitnets", 1), 909, seconds=20.0),
        make_failure(make_cell("fitnets", 2)),
    ]
    return records
