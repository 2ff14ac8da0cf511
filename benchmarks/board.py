"""Time and memory of ``kdzoo board`` over a store of made-up records.

    python benchmarks/board.py --records 100000

The bounds are 10 seconds and 2 GiB for 100,000 records. Each bench and each board reads the records that are new and
keeps what boards use of them, so that a board seldom has much to read. Where that is not there, as in a store that was
copied, it reads all of them: that is told too, as ``first``. The files are warm in the system's cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from importlib.metadata import version
from itertools import count, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from common import Run, run, tell

from kdzoo.board.cache import FILE
from kdzoo.cell import Cell
from kdzoo.measures import image_scores
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Epoch, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS, GIB = 10.0, 2.0
FORMS = ("table", "csv")
STRATEGIES, SEEDS, STUDENTS, EPOCHS, TEST = 10, 5, 20, 60, 10_000


def cells() -> Iterator[Cell]:
    """Cells without end: datasets of twenty students, each with ten strategies on five seeds."""
    recipe = Recipe(name="made-up", epochs=EPOCHS, batch_size=64)
    baseline = StrategyRef(name="ce", distribution="kdzoo", revision="1")
    for dataset in count():
        data = DataRef(
            name=f"set{dataset}", fingerprint=f"{dataset:04x}", num_classes=100, channels=3, img_size=(32, 32),
            fit=45_000, tune=5_000, test=TEST,
        )  # fmt: skip
        teacher = TeacherRef(
            model=ModelRef.parse("resnet101"), weights="trained", recipe=recipe, strategy=baseline, seed=0
        )
        for student, strategy, seed in product(range(STUDENTS), range(STRATEGIES), range(SEEDS)):
            told = StrategyRef(
                name=f"made{strategy}", distribution="kdzoo", revision="1", params={"alpha": 0.9, "temperature": 4.0}
            )
            yield Cell(
                kind="student", data=data, student=ModelRef.parse(f"student{student}"), teacher=teacher,
                strategy=told if strategy else baseline, recipe=recipe, seed=seed,
            )  # fmt: skip


def pattern(cell: Cell) -> Record:
    """A done record, as every other one but for what :func:`record` changes."""
    measures = image_scores(n=TEST, correct1=8_200, correct5=9_500, nll=1.0, ece=5.0)
    curve = tuple(
        Epoch(epoch=epoch, phase="main", terms={"ce": 1.0, "kl": 0.5}, lr=0.05, tune={"top1": 70.0})
        for epoch in range(EPOCHS)
    )
    size = Size(parameters=1_000_000, macs=10_000_000)
    return Record(
        id=cell.id, status="done", cell=cell, family="response", curve=curve, tune=measures,
        test=measures | {"agreement": 80.0}, student=size,
        teacher=TeacherMeasures(size=size, tune=measures, test=measures),
        cost={"train": 100.0, "teacher": 30.0, "evaluate": 5.0, "peak_memory": 10**9},
        environment=Environment(versions={"kdzoo": version("kdzoo")}, device="cpu", threads=2),
        started="2026-01-01T00:00:00Z", ended="2026-01-01T00:02:00Z", command="kdzoo bench",
    )  # fmt: skip


def record(cell: Cell, place: int, like: Record) -> Record:
    """A done record whose accuracy follows from its place."""
    right = 7_000 + place * 7919 % 997
    test = image_scores(n=TEST, correct1=right, correct5=right + 1_500, nll=1.0, ece=5.0) | {"agreement": 80.0}
    size = Size(parameters=1_000_000 + 1_000 * (place % STUDENTS), macs=10_000_000)
    return like.model_copy(update={"id": cell.id, "cell": cell, "test": test, "student": size})


def fill(store: Store, number: int) -> None:
    """Write the records as a bench would, without its waits for the disk."""
    like = pattern(next(cells()))
    for place, cell in enumerate(islice(cells(), number)):
        folder = store.folder(cell.id)
        folder.mkdir(parents=True)
        (folder / "cell.json").write_text(cell.model_dump_json(), encoding="utf-8")
        (folder / "record.json").write_text(record(cell, place, like).to_json(), encoding="utf-8")


def main() -> None:
    """Make the records, print the board several times; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        fill(Store.create(Path(folder) / "runs"), args.records)
        store = Path(folder) / "runs"
        first: dict[str, list[Run]] = {form: [] for form in FORMS}
        later: dict[str, list[Run]] = {form: [] for form in FORMS}
        for _, form in product(range(args.runs), FORMS):
            (store / FILE).unlink(missing_ok=True)
            for runs in (first, later):
                runs[form].append(run("board", "--format", form, "--out", store))
    everyone = [one for runs in (first, later) for form in FORMS for one in runs[form]]
    result: dict[str, object] = {"peak_gib": round(max(one.peak for one in everyone) / 2**30, 3)}
    for name, runs in (("first", first), ("later", later)):
        for form in FORMS:
            seconds = [one.seconds for one in runs[form]]
            result[f"{name}_{form}_seconds"] = round(statistics.median(seconds), 2)
            result[f"{name}_{form}_seconds_of_each"] = [round(one, 2) for one in seconds]
    bounds: dict[str, tuple[float, float | None]] = {"peak_gib": (0.0, GIB)}
    bounds |= {f"{name}_{form}_seconds": (0.0, SECONDS) for name, form in product(("first", "later"), FORMS)}
    sys.exit(not tell("board", vars(args), result, bounds))


if __name__ == "__main__":
    main()
