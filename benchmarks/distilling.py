"""What distilling costs over training alone, as wall time of whole commands.

    python benchmarks/distilling.py --teacher resnet50 --student mobilenetv3_small_050 --samples 2560 --epochs 4

Each command begins with a copy of a store in which the teacher is trained and measured. One trains the matrix: soft,
fitnets, at and rkd on three seeds, whose `ce` cells are there; its bank is built meanwhile. One trains as many `ce`
cells as the matrix has. The teacher's passes are timed alone: each view of each sample once, in large batches. The
bound of the matrix is 1.05 + those passes / the `ce` cells.

A third command trains all five strategies seed by seed, so that neighbours in time are compared: what a cell takes when
its bank is there, over what the `ce` cell of its seed takes. What the matrix takes beside training, evaluation and bank
is the harness's part; its share is told for cells of 30 s. All is done several times, and medians count.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from common import PLUGIN, records, run, tell

from kdzoo.record import Record

STRATEGIES = ("soft", "fitnets", "at", "rkd")


def teacher_seconds(name: str, samples: int, views: int) -> float:
    """Seconds of the bare teacher on every view of every sample once, in batches of the size that suits it best."""
    model = timm.create_model(name, num_classes=10).eval().to(memory_format=torch.channels_last)
    found = []
    with torch.inference_mode():
        for batch in (64, 128, 256):
            inputs = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
            model(inputs)
            times = []
            for _ in range(5):
                began = time.perf_counter()
                model(inputs)
                times.append(time.perf_counter() - began)
            found.append(statistics.median(times) * samples * views / batch)
    return min(found)


def over_baseline(found: Iterable[Record]) -> dict[str, list[float]]:
    """For each strategy, seed by seed: training, evaluation and reading of the bank, over what `ce` takes.

    The first seed is left out: its cells make the bank.
    """
    seconds = {(one.cell.strategy.name, one.cell.seed): spent(one) for one in found if one.cell.seed}
    ratios: dict[str, list[float]] = defaultdict(list)
    for (name, seed), value in sorted(seconds.items()):
        ratios[name].append(round(value / seconds["ce", seed], 3))
    return ratios


def spent(record: Record) -> float:
    """Seconds that a cell trained, measured, and made or opened views of the bank."""
    cost = record.cost
    return cost.train + cost.evaluate + cost.bank if cost else 0.0


def beside(seconds: float, found: Sequence[Record]) -> float:
    """Seconds of each cell that a command was busy with something else: its start, files, building, records."""
    return (seconds - sum(map(spent, found))) / len(found)


def main() -> None:
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--samples", type=int, default=2560, choices=(640, 1280, 2560, 5120, 10240))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bank", default="auto", help="as kdzoo bench takes it")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    seeds, cells = str(args.seeds), str(args.seeds * len(STRATEGIES))
    walls: dict[str, list[float]] = {"ce": [], "matrix": [], "teacher": []}
    ratios: dict[str, list[float]] = defaultdict(list)
    harness: list[float] = []
    with TemporaryDirectory() as folder:

        def bench(store: Path, strategies: str, *more: str) -> float:
            data = ("--plugin", str(PLUGIN), "--dataset", f"patterns{args.samples}")
            pair = ("--teacher", args.teacher, "--student", args.student, "--teacher-epochs", "2")
            recipe = ("--set", f"recipe.batch_size={args.batch}", "--epochs", str(args.epochs), "--bank", args.bank)
            what = ("--out", str(store), "--strategies", strategies, *more)
            return run("bench", "--config", "quick", *data, *pair, *recipe, *what).seconds

        def copy(store: Path, name: str) -> Path:
            return shutil.copytree(store, Path(folder) / name)

        taught = Path(folder) / "taught"
        bench(taught, "ce", "--epochs", "1", "--seeds", "1")
        begun = copy(taught, "begun")
        bench(begun, "ce", "--seeds", seeds)
        for number in range(args.runs):
            turns = [("ce", taught, "ce", cells), ("matrix", begun, ",".join(STRATEGIES), seeds)]
            for name, store, strategies, count in turns[:: -1 if number % 2 else 1]:
                own = copy(store, f"{name}{number}")
                walls[name].append(bench(own, strategies, "--seeds", count))
                if name == "matrix":
                    harness.append(
                        beside(walls[name][-1], [one for one in records(own) if one.cell.strategy.name != "ce"])
                    )
            walls["teacher"].append(teacher_seconds(args.teacher, args.samples - args.samples // 10, args.epochs))
            store = copy(taught, f"mixed{number}")
            bench(store, ",".join(STRATEGIES), "--seeds", seeds)
            done = [one for one in records(store) if one.cell.recipe.epochs == args.epochs]
            for name, values in over_baseline(done).items():
                ratios[name] += values
    idle = statistics.median(harness)
    of_all = list(zip(walls["matrix"], walls["ce"], walls["teacher"], strict=True))
    teacher = round(statistics.median(passes / alone for _, alone, passes in of_all), 3)
    result = {
        "matrix_over_ce": round(statistics.median(matrix / alone for matrix, alone, _ in of_all), 3),
        "teacher_over_ce": teacher,
        "soft_over_ce": round(statistics.median(ratios["soft"]), 3),
        "cell_over_ce": {name: round(statistics.median(values), 3) for name, values in ratios.items()},
        "harness_share_of_30s_cells": round(idle / (30 + idle), 4),
        "harness_seconds_per_cell": [round(value, 2) for value in harness],
        "seconds": {name: [round(value, 1) for value in each] for name, each in walls.items()},
        "cells_over_ce": ratios,
    }
    bounds = {
        "matrix_over_ce": (0.0, round(1.05 + teacher, 3)),
        "soft_over_ce": (0.0, 1.03),
        "harness_share_of_30s_cells": (0.0, 0.05),
    }
    sys.exit(not tell("distilling", vars(args), result, bounds))


if __name__ == "__main__":
    main()
