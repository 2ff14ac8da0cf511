"""Stores and published folders for tests, and the studies of tuning."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdzoo.cell import Cell
from kdzoo.drawing import chart_digest, drawer
from kdzoo.leaderboard.charts.parts import Chart
from kdzoo.leaderboard.layout import Leaderboard, read_leaderboard
from kdzoo.leaderboard.publish import write_published
from kdzoo.measures import Scores, image_scores
from kdzoo.needed import teacher_cell
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Epoch, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.space import Range
from kdzoo.store import Store
from kdzoo.study import Study, StudyPlan, Trial

RECIPE = Recipe(name="quick", epochs=2, batch_size=32)
DATA = DataRef(
    name="digits", fingerprint="f00d", num_classes=10, channels=1, img_size=(16, 16), fit=4000, tune=500, test=1000
)
PARAMS: dict[str, dict[str, Any]] = {
    "ce": {},
    "soft": {"alpha": 0.9, "temperature": 4.0},
    "fitnets": {"beta": 100.0, "stage": 1},
}
SPACES = {
    "ce": {"recipe.lr": Range(low=0.001, high=1.0, log=True)},
    "soft": {"soft.temperature": Range(low=1.0, high=16.0, log=True)},
    "fitnets": {"fitnets.beta": Range(low=1.0, high=1000.0, log=True)},
}


def make_teacher(name: str = "resnet10t", **changes: Any) -> TeacherRef:
    label_only = StrategyRef(name="ce", distribution="kdzoo", revision="1")
    values = {"weights": "trained", "recipe": RECIPE, "strategy": label_only, "seed": 0}
    return TeacherRef(model=ModelRef.parse(name), **(values | changes))


def make_cell(strategy: str = "ce", seed: int = 0, **changes: Any) -> Cell:
    """A student's cell; the student by its name."""
    values: dict[str, Any] = {
        "kind": "student",
        "data": DATA,
        "student": ModelRef.parse(changes.pop("student", "test_resnet")),
        "teacher": make_teacher(),
        "strategy": StrategyRef(
            name=strategy, distribution="kdzoo", revision="1", params=changes.pop("params", PARAMS.get(strategy, {}))
        ),
        "recipe": RECIPE,
        "seed": seed,
    }
    return Cell(**(values | changes))


def measures(right: int, n: int = 1000) -> Scores:
    """So many right answers of 1000, or the same share of another number."""
    return image_scores(n=n, correct1=right * n // 1000, correct5=n, nll=0.5, ece=2.0)


def make_record(cell: Cell, right: int = 900, **changes: Any) -> Record:
    """A done record with so many right answers of 1000 on test."""
    student = cell.kind == "student"
    large = Size(parameters=5_000_000, macs=4000)
    teacher = TeacherMeasures(size=large, tune=measures(980, cell.data.tune), test=measures(980))
    tune = measures(right, cell.data.tune)
    last = cell.recipe.epochs - 1
    values: dict[str, Any] = {
        "id": cell.id,
        "status": "done",
        "cell": cell,
        "family": "response",
        "curve": tuple(
            Epoch(
                epoch=epoch,
                phase="main",
                terms={"ce": 0.5},
                lr=0.05,
                tune={"top1": tune["top1"] if epoch == last else 50.0},
            )
            for epoch in range(cell.recipe.epochs)
        ),
        "tune": tune,
        "test": None if cell.kind == "trial" else measures(right),
        "agreement": 95.0 if student else None,
        "teacher": teacher if cell.teacher else None,
        "student": large if cell.kind == "teacher" else Size(parameters=400_000, macs=1000),
        "cost": {"train": 10.0, "teacher": 2.5, "evaluate": 1.0, "peak_memory": 1_000_000},
        "environment": Environment(versions={"kdzoo": "0.1.0"}, device="cpu", threads=2),
        "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:01:00Z",
        "command": "kdzoo bench",
    }
    values |= changes
    if (agreement := values.pop("agreement")) is not None and values["test"] is not None:
        values["test"] = {"agreement": agreement} | values["test"]
    return Record(**values)


def make_failure(cell: Cell, reason: str = "the loss became NaN in epoch 3", **changes: Any) -> Record:
    nothing = dict.fromkeys(("test", "tune", "agreement", "cost", "student"))
    return make_record(cell, status="failed", reason=reason, curve=(), **nothing, **changes)


def make_rows(results: dict[str, Sequence[int]], **changes: Any) -> list[Record]:
    """Done records: right answers of 1000 for each strategy and seed."""
    return [
        make_record(make_cell(strategy, seed, **changes), right)
        for strategy, rights in results.items()
        for seed, right in enumerate(rights)
    ]


def make_store(path: Path, records: Iterable[Record], studies: Iterable[Study] = ()) -> Path:
    """A store as a bench leaves it, weights included."""
    store = Store.create(path)
    for record in records:
        store.plan(record.cell)
        store.write_record(record)
        (store.folder(record.id) / "student.safetensors").write_bytes(b"weights")
    for study in studies:
        store.write_study(study)
    return path


def with_teachers(records: Sequence[Record]) -> list[Record]:
    """The records, and those of their teachers' trainings."""
    cells = [teacher_cell(record.cell.teacher, record.cell.data) for record in records if record.cell.teacher]
    trainings = {cell.id: cell for cell in cells if cell}
    return [*records, *(make_record(cell, 980) for cell in trainings.values())]


def make_folder(path: Path, records: Iterable[Record], studies: Iterable[Study] = ()) -> Path:
    """A published folder with these records, whether or not they would pass a check."""
    write_published(path, Leaderboard(), Leaderboard(tuple(records), tuple(studies)))
    return path


def make_study(name: str, scores: Sequence[float | None], **changes: Any) -> Study:
    """A study with a trial for each score, percent on tune, None for a failed one; trial ``n`` tries ``n`` + 1
    times the default."""
    values: dict[str, Any] = {
        "data": DATA,
        "teacher": make_teacher(),
        "student": ModelRef.parse("test_resnet"),
        "strategy": StrategyRef(name=name, distribution="kdzoo", revision="1", params=PARAMS[name]),
        "recipe": RECIPE,
        "trial_recipe": RECIPE.model_copy(update={"epochs": 1}),
        "space": SPACES[name],
        "trials": len(scores),
    }
    plan = StudyPlan(**(values | changes))
    trials = []
    for number, score in enumerate(scores):
        tried = {key: value * (number + 1) for key, value in plan.defaults().items()}
        ended: dict[str, Any] = {"state": "failed", "reason": "out of memory"}
        if score is not None:
            ended = {"state": "done", "curve": (score,) * plan.trial_recipe.epochs, "seconds": 2.0}
        trials.append(Trial(cell=plan.trial(tried).id, values=tried, **ended))
    return Study(id=plan.id, plan=plan, trials=tuple(trials))


def finals(study: Study, results: Sequence[int]) -> list[Record]:
    """The winner's records: right answers of 1000 for each seed."""
    return [make_record(cell, right) for cell, right in zip(study.finals(range(len(results))), results, strict=True)]


def make_tuned() -> tuple[list[Record], list[Study]]:
    """One pair, default and tuned rows of soft and fitnets, three seeds each."""
    records = [
        make_record(make_cell(strategy, seed), right + seed)
        for strategy, right in {"ce": 900, "soft": 920, "fitnets": 910}.items()
        for seed in range(3)
    ]
    studies = [make_study("soft", [50.0, 60.0, 70.0]), make_study("fitnets", [80.0, None, 81.0])]
    for study in studies:
        records += finals(study, [930, 931, 935])
    return with_teachers(records), studies


@contextlib.contextmanager
def blank_drawings() -> Iterator[None]:
    """Plots are blank, and say what they would have been drawn from: that takes no time."""

    def png(chart: Chart) -> bytes:
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
            (b"tEXt", b"kdzoo spec\0" + f"sha256 {chart_digest(chart)}, drawn by {drawer()}".encode()),
            (b"IDAT", zlib.compress(b"\0\0")),
            (b"IEND", b""),
        ]
        framed = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(framed)

    def svg(chart: Chart) -> bytes:
        start = '<svg xmlns="http://www.w3.org/2000/svg">'
        return (
            f"{start}<metadata>kdzoo spec sha256 {chart_digest(chart)}, drawn by {drawer()}</metadata></svg>".encode()
        )

    with pytest.MonkeyPatch.context() as patch:
        for module in ("generate", "check.published"):
            patch.setattr(f"kdzoo.leaderboard.{module}.png", png)
            patch.setattr(f"kdzoo.leaderboard.{module}.svg", svg)
        yield


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def ids(folder: Path) -> set[str]:
    """The records and studies of a folder."""
    found = read_leaderboard(folder)
    return {one.id for one in (*found.records, *found.studies)}
