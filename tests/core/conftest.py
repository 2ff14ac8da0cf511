"""One literal cell, and a record of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdzoo.cell import Cell
from kdzoo.measures import image_scores
from kdzoo.recipe import Augment, Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef

RECIPE = Recipe(name="quick", epochs=12, batch_size=64, warmup=0.1, augment=Augment(crop=2))


@pytest.fixture
def cell() -> Cell:
    return Cell(
        kind="student",
        data=DataRef(
            name="digits", fingerprint="0123456789abcdef", num_classes=10, channels=1, img_size=(8, 8), fit=1294,
            tune=144, test=359,
        ),
        student=ModelRef(name="test_vit", args={"patch_size": 4}),
        teacher=TeacherRef(
            model=ModelRef(name="resnet10t"),
            weights="trained",
            recipe=RECIPE,
            strategy=StrategyRef(name="ce", distribution="kdzoo", revision="1"),
            seed=0,
        ),
        strategy=StrategyRef(name="soft", distribution="kdzoo", revision="1", params={"temperature": 4.0}),
        recipe=RECIPE,
        seed=2,
    )  # fmt: skip


@pytest.fixture
def make_record(cell: Cell) -> Callable[..., Record]:
    """A done record of the cell (or of another one), with changes."""

    def make(of: Cell = cell, **changes: Any) -> Record:
        measures = image_scores(n=359, correct1=300, correct5=350, nll=0.5, ece=2.0)
        size = Size(parameters=1000, macs=2000)
        values: dict[str, Any] = {
            "id": of.id,
            "status": "done",
            "cell": of,
            "tune": measures,
            "test": measures,
            "agreement": 90.0,
            "teacher": TeacherMeasures(size=size, tune=measures, test=measures),
            "student": size,
            "cost": {"train": 1.0, "teacher": 0.5, "evaluate": 0.1, "peak_memory": 1},
            "environment": Environment(versions={"kdzoo": "0.1.0"}, device="cpu", threads=1),
            "started": "2026-01-01T00:00:00Z",
            "ended": "2026-01-01T00:01:00Z",
            "command": "kdzoo bench",
        }
        values |= changes
        if (agreement := values.pop("agreement")) is not None and values["test"] is not None:
            values["test"] = {"agreement": agreement} | values["test"]
        return Record(**values)

    return make
