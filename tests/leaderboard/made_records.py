"""Records as a bench would write them, made up; factories for cells and records, and a board's worth of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from kdzoo.cell import Cell
from kdzoo.measures import Scores, image_scores
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Epoch, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef

RECIPE = Recipe(name="quick", epochs=5, batch_size=32, warmup=0.1)
DATA = DataRef(
    name="digits", fingerprint="f00d", num_classes=10, channels=1, img_size=(16, 16), fit=1078, tune=359, test=1000
)
PARAMS: dict[str, dict[str, Any]] = {
    "ce": {},
    "soft": {"alpha": 0.9, "temperature": 4.0},
    "fitnets": {"beta": 100.0, "stage": 1},
}
FAMILIES = {"ce": "baseline", "soft": "response", "fitnets": "feature"}
SIZES = {"resnet10t": 5_400_000, "test_resnet": 470_000, "test_vit": 370_000, "resnet18": 11_200_000}
LABEL_ONLY = StrategyRef(name="ce", distribution="kdzoo", revision="1")


def measures(correct1: int, n: int = 1000) -> Scores:
    return image_scores(n=n, correct1=correct1, correct5=n, nll=0.5, ece=2.0)


def make_teacher(name: str = "resnet10t", **changes: Any) -> TeacherRef:
    values = {"weights": "trained", "recipe": RECIPE, "strategy": LABEL_ONLY, "seed": 0}
    return TeacherRef(model=ModelRef.parse(name), **(values | changes))


def make_cell(strategy: str = "ce", seed: int = 0, **changes: Any) -> Cell:
    """A student's cell, with ``student`` and ``teacher`` by their names or as they are."""
    teacher = changes.pop("teacher", "resnet10t")
    params = changes.pop("params", PARAMS.get(strategy, {}))
    values: dict[str, Any] = {
        "kind": "student",
        "data": DATA,
        "student": ModelRef.parse(changes.pop("student", "test_resnet")),
        "teacher": make_teacher(teacher) if isinstance(teacher, str) else teacher,
        "strategy": StrategyRef(
            name=strategy,
            distribution=changes.pop("distribution", "kdzoo"),
            revision=changes.pop("revision", "1"),
            params=params,
        ),
        "recipe": RECIPE,
        "seed": seed,
    }
    return Cell(**(values | changes))


def make_curve(top1: float, epochs: int = 5) -> tuple[Epoch, ...]:
    """A curve that rises to ``top1`` percent."""
    reached = [round(top1 * (1 - math.exp(-1.5 * (epoch + 1))), 4) for epoch in range(epochs)]
    return tuple(
        Epoch(epoch=epoch, phase="main", terms={"ce": 1.0 / (epoch + 1)}, lr=0.05, tune={"top1": value})
        for epoch, value in enumerate(reached)
    )


def make_record(cell: Cell, correct1: int = 900, *, teacher_correct1: int = 980, **changes: Any) -> Record:
    """A done record with so many right answers of 1000, of the student and of its teacher."""
    size = Size(parameters=SIZES.get(cell.student.name, 90_000), macs=1000)
    values: dict[str, Any] = {
        "id": cell.id,
        "status": "done",
        "cell": cell,
        "family": FAMILIES.get(cell.strategy.name, "response"),
        "curve": make_curve(correct1 / 10, cell.recipe.epochs),
        "tune": measures(correct1),
        "test": None if cell.kind == "trial" else measures(correct1),
        "agreement": 95.0 if cell.kind == "student" and cell.teacher else None,
        "student": size,
        "cost": {"train": 10.0, "teacher": 2.5, "evaluate": 1.0, "peak_memory": 1_000_000},
        "environment": Environment(versions={"kdzoo": "0.1.0", "torch": "2.14.1"}, device="cpu", threads=2),
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:01:00Z",
        "command": "kdzoo bench",
    }
    if cell.teacher is not None:
        values["teacher"] = TeacherMeasures(
            size=Size(parameters=SIZES.get(cell.teacher.model.name, 270_000), macs=4000),
            tune=measures(teacher_correct1),
            test=measures(teacher_correct1),
        )
    values |= changes
    if (agreement := values.pop("agreement")) is not None and values["test"] is not None:
        values["test"] = {"agreement": agreement} | values["test"]
    return Record(**values)


def make_failure(cell: Cell, reason: str = "the loss became NaN in epoch 3") -> Record:
    nothing = dict.fromkeys(("test", "tune", "agreement", "cost", "student"))
    return make_record(cell, status="failed", reason=reason, curve=(), **nothing)


def make_rows(results: dict[str, Iterable[int]], **changes: Any) -> list[Record]:
    """Done records: right answers of 1000 for each strategy and seed."""
    return [
        make_record(make_cell(strategy, seed, **changes), correct)
        for strategy, correct_by_seed in results.items()
        for seed, correct in enumerate(correct_by_seed)
    ]


def make_sweep() -> list[Record]:
    """Two pairs of different size: ce, soft and fitnets, three seeds each, of which one failed."""
    records = make_rows({"ce": [900, 910, 890], "soft": [930, 936, 924], "fitnets": [905, 909]})
    records.append(make_failure(make_cell("fitnets", 2)))
    small = {"ce": [800, 812, 806], "soft": [842, 836, 851], "fitnets": [790, 801, 780]}
    return records + make_rows(small, student="test_vit:patch_size=4")
