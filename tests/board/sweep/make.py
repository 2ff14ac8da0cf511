"""Makes the sweep: a small store of made-up records, and the boards that must be printed of it.

``python tests/board/sweep/make.py boards`` prints the boards again, after a change of the board that is meant.
``python tests/board/sweep/make.py store`` writes the store again, which only a change of this script calls for.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

from kdzoo.cell import Cell
from kdzoo.cli.board import board
from kdzoo.measures import Scores, image_scores
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Epoch, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, Scalar, StrategyRef, TeacherRef
from kdzoo.space import Range
from kdzoo.store import Store
from kdzoo.study import Study, StudyPlan, Trial

FOLDER = Path(__file__).parent
STORE = FOLDER / "store"

BOARDS: dict[str, dict[str, str | float]] = {
    "board.txt": {},
    "explain.txt": {"explain": True},
    "board.md": {"format": "md"},
    "board.csv": {"format": "csv"},
    "board.json": {"format": "json"},
    "board.tex": {"format": "latex"},
    "dataset.txt": {"by": "dataset", "sort": "diff_ce"},
    "power.txt": {"power": 0.5},
}
"""Each expected file and the options of ``kdzoo board`` that print it."""

RECIPE = Recipe(name="quick", epochs=2, batch_size=64)
DIGITS = DataRef(
    name="digits", fingerprint="d161", num_classes=10, channels=1, img_size=(16, 16), fit=1294, tune=144, test=400
)
FASHION = DataRef(
    name="fashion_mnist[:5000]",
    fingerprint="fa51",
    num_classes=10,
    channels=1,
    img_size=(28, 28),
    fit=4500,
    tune=500,
    test=10_000,
)
RESNET, VIT = ModelRef(name="resnet18"), ModelRef(name="vit_tiny_patch16_224", args={"depth": 6})
MIXER = ModelRef(name="mixer_s32_224")
STUDENT = ModelRef(name="resnet10t")
SIZES = {
    "resnet18": Size(parameters=11_176_512, macs=37_000_000),
    "vit_tiny_patch16_224": Size(parameters=2_780_000, macs=9_000_000),
    "mixer_s32_224": Size(parameters=19_100_000, macs=75_000_000),
    "resnet10t": Size(parameters=4_930_000, macs=11_000_000),
}
TEACHERS = {("digits", "resnet18"): 394, ("digits", "vit_tiny_patch16_224"): 385}
TEACHERS |= {("fashion_mnist[:5000]", "resnet18"): 8874, ("fashion_mnist[:5000]", "vit_tiny_patch16_224"): 8655}
TEACHERS |= {("fashion_mnist[:5000]", "mixer_s32_224"): 8790}

PARAMS: dict[str, dict[str, Scalar]] = {
    "ce": {},
    "soft": {"alpha": 0.9, "temperature": 4.0},
    "at": {"beta": 1000.0, "power": 2},
    "fitnets": {"beta": 100.0, "hint_epochs": 0, "stage": 0},
}
FAMILIES = {"ce": "none", "soft": "response", "at": "feature", "fitnets": "feature"}
SECONDS = {"ce": 10.0, "soft": 14.0, "at": 17.5, "fitnets": 18.25}

FAILED, MISSING = -1, -2
# Right answers on test for seeds 0, 1 and 2; one pair has five seeds, enough for an interval of the recovered gap.
RESULTS: dict[tuple[DataRef, ModelRef], dict[str, list[int]]] = {
    (DIGITS, RESNET): {
        "ce": [376, 380, 377],
        "soft": [384, 386, 386],
        "at": [379, 384, 379],
        "fitnets": [383, 385, -1],
    },
    (DIGITS, VIT): {"ce": [376, 380, 377], "soft": [379, 381, 380], "at": [377, 381, 378], "fitnets": [381, -2, 383]},
    (FASHION, RESNET): {"ce": [8455, 8471, 8430], "soft": [8532, 8540, 8555], "at": [8477, 8490, 8458]},
    (FASHION, VIT): {"ce": [8455, 8471, 8430], "soft": [8440, 8482, 8445], "at": [8391, 8433, 8402]},
    (FASHION, MIXER): {
        "ce": [8455, 8471, 8430, 8462, 8449],
        "soft": [8519, 8551, 8498, 8533, 8510],
        "at": [8470, 8461, 8462, 8489, 8431],
    },
}
TUNED = [388, 390, 387]
"""The same for the winner of the study of soft on digits and resnet18; that of at on fashion_mnist was the default."""


def teacher(model: ModelRef) -> TeacherRef:
    label_only = StrategyRef(name="ce", distribution="kdzoo", revision="1")
    return TeacherRef(model=model, weights="trained", recipe=RECIPE, strategy=label_only, seed=0)


def cell_of(data: DataRef, teacher_model: ModelRef, strategy: str, seed: int) -> Cell:
    return Cell(
        kind="student",
        data=data,
        student=STUDENT,
        teacher=teacher(teacher_model),
        strategy=StrategyRef(name=strategy, distribution="kdzoo", revision="1", params=PARAMS[strategy]),
        recipe=RECIPE,
        seed=seed,
    )


def measures(correct1: int, n: int) -> Scores:
    wrong = 1 - correct1 / n
    return image_scores(
        n=n,
        correct1=correct1,
        correct5=n - (n - correct1) // 8,
        nll=round(3.5 * wrong + correct1 % 7 / 100, 4),
        ece=round(40 * wrong + correct1 % 5 / 10, 3),
    )


def record_of(cell: Cell, correct1: int) -> Record:
    assert cell.teacher is not None
    data, network = cell.data, cell.teacher.model.name
    taught = TEACHERS[data.name, network]
    tune = round(correct1 / data.test * data.tune)
    failed = correct1 == FAILED
    agreement = round(100 * correct1 / data.test - 1 - cell.seed / 10, 3)
    seconds = SECONDS[cell.strategy.name] * data.fit / DIGITS.fit * (1 + cell.seed / 16)
    return Record(
        id=cell.id,
        status="failed" if failed else "done",
        cell=cell,
        family=FAMILIES[cell.strategy.name],
        curve=()
        if failed
        else tuple(
            Epoch(
                epoch=epoch, phase="main", terms={"ce": 1.5 / (1 + epoch)}, lr=0.05 / (1 + epoch), tune={"top1": top1}
            )
            for epoch, top1 in enumerate([50.0, measures(tune, data.tune)["top1"]])
        ),
        tune=None if failed else measures(tune, data.tune),
        test=None if failed else measures(correct1, data.test) | {"agreement": agreement},
        teacher=TeacherMeasures(
            size=SIZES[network],
            tune=measures(round(taught / data.test * data.tune), data.tune),
            test=measures(taught, data.test),
        ),
        student=None if failed else SIZES[cell.student.name],
        adapter_parameters=36_864 if cell.strategy.name == "fitnets" else 0,
        cost=None
        if failed
        else {
            "train": seconds,
            "teacher": seconds / 5,
            "evaluate": 0.5,
            "bank": 0.0,
            "peak_memory": 500_000_000 + cell.seed * 1_000_000,
        },
        environment=Environment(versions={"kdzoo": "0.1.0"}, device="cpu", threads=2),
        started="2026-01-01T00:00:00Z",
        ended="2026-01-01T00:01:00Z",
        command="kdzoo bench",
        reason="the loss became NaN in epoch 1" if failed else "",
    )


def study_of(first: Cell, space: dict[str, Range], tried: list[tuple[dict[str, Scalar], float]]) -> Study:
    """A finished study with top-1 on tune for each trial's values; the first are those of the cell."""
    assert first.teacher is not None
    plan = StudyPlan(
        data=first.data,
        teacher=first.teacher,
        student=first.student,
        strategy=first.strategy,
        recipe=first.recipe,
        trial_recipe=first.recipe.model_copy(update={"epochs": 1}),
        space=space,
        trials=len(tried),
    )
    trials = tuple(
        Trial(cell=plan.trial(values).id, values=values, state="done", curve=(top1,), seconds=6.5 + number)
        for number, (values, top1) in enumerate(tried)
    )
    return Study(id=plan.id, plan=plan, trials=trials)


def studies() -> list[Study]:
    soft = study_of(
        cell_of(DIGITS, RESNET, "soft", 0),
        {"soft.temperature": Range(low=1, high=16, log=True), "soft.alpha": Range(low=0, high=1)},
        [
            ({"soft.temperature": 4.0, "soft.alpha": 0.9}, 94.0),
            ({"soft.temperature": 8.25, "soft.alpha": 0.5}, 95.5),
            ({"soft.temperature": 1.5, "soft.alpha": 0.25}, 93.75),
        ],
    )
    at = study_of(
        cell_of(FASHION, RESNET, "at", 0),
        {"at.beta": Range(low=10, high=10_000, log=True)},
        [({"at.beta": 1000.0}, 83.6), ({"at.beta": 52.5}, 82.4), ({"at.beta": 7300.0}, 83.0)],
    )
    return [soft, at]


def write_store() -> None:
    store = Store.create(STORE)
    for (data, network), rows in RESULTS.items():
        for strategy, correct_by_seed in rows.items():
            for seed, correct in enumerate(correct_by_seed):
                write(store, cell_of(data, network, strategy, seed), correct)
    for study in studies():
        store.write_study(study)
    for cell, correct in zip(studies()[0].finals(range(3)), TUNED, strict=True):
        write(store, cell, correct)


def write(store: Store, cell: Cell, correct1: int) -> None:
    """A bench keeps the cell beside the record too; here that would only double the files."""
    if correct1 == MISSING:
        store.plan(cell)
    else:
        store.folder(cell.id).mkdir(exist_ok=True)
        store.write_record(record_of(cell, correct1))


def printed(options: dict[str, str | float]) -> str:
    """What ``kdzoo board`` prints of the store."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        board(STORE, **options)  # type: ignore[arg-type]
    return out.getvalue()


def write_boards() -> None:
    for name, options in BOARDS.items():
        (FOLDER / "expected" / name).write_text(printed(options), encoding="utf-8")


if __name__ == "__main__":
    {"boards": write_boards, "store": write_store}[sys.argv[1]]()
