"""What distilling costs over training alone, as wall time of whole commands.

    python benchmarks/distilling.py --teacher resnet50 --student mobilenetv3_small_050 --samples 2560 --epochs 4

Each command begins with a copy of a store in which the teacher is trained and measured. One trains the matrix: soft,
fitnets, at and rkd on three seeds, whose `ce` cells are there; its bank is built meanwhile. One trains as many `ce`
cells as the matrix has. The two take turns: each runs for a second while the other one is stopped, and between them
the bare teacher runs on a few batches, so that what else the machine does hits all three alike. The bound of the matrix
is 1.05 + the teacher's passes, each view of each sample once, / the `ce` cells.

What a cell takes when its bank is there is measured in one process, in which cells of all five strategies train side
by side and take turns step by step: what an epoch takes, with its evaluation and the reading of the bank, over the same
epoch of `ce`. The command that makes that bank runs alone; what it takes beside training, evaluation and bank is the
harness's part, and its share is told for cells of 30 s. All is done several times, and medians count.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from common import PLUGIN, in_slices, records, run, tell
from turns import in_turn

from kdzoo.record import Record

STRATEGIES = ("soft", "fitnets", "at", "rkd")


class Passes:
    """The bare teacher over one batch at a time, of the size that suits it best on this machine.

    Args:
        name: of the teacher.
    """

    def __init__(self, name: str) -> None:
        self._model = timm.create_model(name, num_classes=10).eval().to(memory_format=torch.channels_last)
        tried = {size: min(self._seconds(size) / size for _ in range(4)) for size in (64, 128, 256)}
        self._size = min(tried, key=lambda size: tried[size])
        self._found: list[float] = []

    def run(self) -> None:
        """One batch, after another one by which the caches know the network again."""
        self._seconds(self._size)
        self._found.append(self._seconds(self._size))

    def seconds_of(self, images: int) -> float:
        """For so many images, at the mean speed of all batches that were timed."""
        return statistics.mean(self._found) * images / self._size

    @torch.inference_mode()
    def _seconds(self, size: int) -> float:
        inputs = torch.randn(size, 3, 32, 32).to(memory_format=torch.channels_last)
        began = time.perf_counter()
        self._model(inputs)
        return time.perf_counter() - began


def spent(record: Record) -> float:
    """Seconds that a cell trained, measured, and made or opened views of the bank."""
    cost = record.cost
    return cost["train"] + cost["evaluate"] + cost["bank"] if cost else 0.0


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
    parser.add_argument("--turns", type=int, default=8, help="epochs of the cells that take turns")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    everyone = ",".join(STRATEGIES)
    walls: dict[str, list[float]] = {"ce": [], "matrix": [], "teacher": []}
    ratios: dict[str, list[float]] = defaultdict(list)
    harness: list[float] = []
    with TemporaryDirectory() as folder:

        def flags(strategies: str, **more: Any) -> dict[str, Any]:
            data = {"dataset": f"patterns{args.samples}", "set": {"recipe.batch_size": args.batch}, "bank": args.bank}
            pair = {"teacher": args.teacher, "student": args.student, "teacher_epochs": 2, "epochs": args.epochs}
            return {"strategies": strategies} | data | pair | more

        def bench(store: Path, strategies: str, **more: Any) -> list[str | Path]:
            told = flags(strategies, **more)
            settings = [part for name, value in told.pop("set").items() for part in ("--set", f"{name}={value}")]
            others = [part for key, value in told.items() for part in (f"--{key.replace('_', '-')}", str(value))]
            return ["bench", "--config", "quick", "--plugin", PLUGIN, "--out", store, *settings, *others]

        def copy(store: Path, name: str) -> Path:
            return shutil.copytree(store, Path(folder) / name)

        taught = Path(folder) / "taught"
        run(*bench(taught, "ce", epochs=1, seeds=1))
        begun = copy(taught, "begun")
        run(*bench(begun, "ce", seeds=args.seeds))
        for number in range(args.runs):
            passes = Passes(args.teacher)
            alone = bench(copy(taught, f"ce{number}"), "ce", seeds=args.seeds * len(STRATEGIES))
            matrix = bench(copy(begun, f"matrix{number}"), everyone, seeds=args.seeds)
            for name, seconds in in_slices({"ce": alone, "matrix": matrix}, passes.run).items():
                walls[name].append(seconds)
            walls["teacher"].append(passes.seconds_of((args.samples - args.samples // 10) * args.epochs))
            store = copy(taught, f"turns{number}")
            long = {"epochs": args.turns, "bank": "disk"}
            took = run(*bench(store, everyone, seeds=args.seeds, **long)).seconds
            harness.append(beside(took, [one for one in records(store) if one.cell.recipe.epochs == args.turns]))
            for name, values in in_turn(store, flags(everyone, **long), args.seeds).items():
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
        "epochs_over_ce": ratios,
    }
    bounds = {
        "matrix_over_ce": (0.0, round(1.05 + teacher, 3)),
        "soft_over_ce": (0.0, 1.03),
        "harness_share_of_30s_cells": (0.0, 0.05),
    }
    sys.exit(not tell("distilling", vars(args), result, bounds))


if __name__ == "__main__":
    main()
