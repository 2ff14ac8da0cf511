"""What distilling costs over training alone, as wall time of whole commands.

    python benchmarks/distilling.py --teacher resnet50 --student mobilenetv3_small_050 --samples 2560 --epochs 6

The store holds a trained and measured teacher before anything is timed. Then follow, each as one `kdzoo bench`: as many
`ce` cells as the matrix has, the matrix of soft, fitnets, at and rkd on three seeds (its bank is built meanwhile), and
soft on as many seeds again with the bank that is there. The teacher's passes are timed alone: each view of each sample
once, in large batches. The bound of the matrix is 1.05 + those passes / the `ce` cells.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from common import PLUGIN, records, run, tell

from kdzoo.record import Record

STRATEGIES = ("soft", "fitnets", "at", "rkd")


def teacher_seconds(name: str, samples: int, views: int, batch: int = 256) -> float:
    """Seconds of the bare teacher on every view of every sample once."""
    model = timm.create_model(name, num_classes=10).eval().to(memory_format=torch.channels_last)
    inputs = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        model(inputs)
        for _ in range(5):
            began = time.perf_counter()
            model(inputs)
            times.append(time.perf_counter() - began)
    return statistics.median(times) * samples * views / batch


def cell_seconds(found: Iterable[Record]) -> dict[str, float]:
    """Median seconds of a cell by strategy: its training, the teacher's part included, and its evaluation."""
    by_strategy: dict[str, list[float]] = defaultdict(list)
    for record in found:
        if record.cost is not None:
            by_strategy[record.cell.strategy.name].append(record.cost.train + record.cost.evaluate)
    return {name: round(statistics.median(seconds), 2) for name, seconds in sorted(by_strategy.items())}


def main() -> None:
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--samples", type=int, default=2560, choices=(640, 1280, 2560, 5120, 10240))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bank", default="auto", help="as kdzoo bench takes it")
    args = parser.parse_args()
    cells = args.seeds * len(STRATEGIES)
    with TemporaryDirectory() as folder:
        store = Path(folder) / "runs"
        pair = [
            *("bench", "--config", "quick", "--plugin", PLUGIN, "--dataset", f"patterns{args.samples}"),
            *("--teacher", args.teacher, "--student", args.student, "--teacher-epochs", "2", "--out", store),
            *("--set", f"recipe.batch_size={args.batch}", "--bank", args.bank),
        ]
        epochs = ["--epochs", str(args.epochs)]
        run(*pair, "--epochs", "1", "--strategies", "ce", "--seeds", "1")  # the teacher, and the files' first read
        alone = run(*pair, *epochs, "--strategies", "ce", "--seeds", str(cells)).seconds
        matrix = run(*pair, *epochs, "--strategies", ",".join(STRATEGIES), "--seeds", str(args.seeds)).seconds
        first = {record.id for record in records(store)}
        warm = run(*pair, *epochs, "--strategies", "soft", "--seeds", str(cells)).seconds
        done = [record for record in records(store) if record.cell.recipe.epochs == args.epochs]
        by_strategy = cell_seconds(record for record in done if record.id in first)
        soft = cell_seconds(record for record in done if record.id not in first)["soft"]
        start = run("bench", "--config", "quick", "--dry-run", "--out", Path(folder) / "none").seconds
    fit = args.samples - args.samples // 10
    passes = teacher_seconds(args.teacher, fit, args.epochs)
    result = {
        "ce_seconds": round(alone, 1),
        "matrix_seconds": round(matrix, 1),
        "teacher_passes_seconds": round(passes, 1),
        "matrix_over_ce": round(matrix / alone, 3),
        "soft_warm_over_ce": round(soft / by_strategy["ce"], 3),
        "soft_warm_seconds": round(warm, 1),
        "start_seconds": round(start, 2),
        "cell_seconds": by_strategy,
        "cell_over_ce": {name: round(value / by_strategy["ce"], 3) for name, value in by_strategy.items()},
    }
    bounds = {"matrix_over_ce": (0.0, round(1.05 + passes / alone, 3)), "soft_warm_over_ce": (0.0, 1.03)}
    sys.exit(not tell("distilling", vars(args), result, bounds))


if __name__ == "__main__":
    main()
