"""Two workers against one process on the same cores, for small students, as wall time of whole commands.

    python benchmarks/workers.py --student test_resnet --workers 2

Both train the same `ce` cells in a fresh store whose teacher is there; the runs alternate, and medians count. What is
not training, evaluation or the teacher (starts, files, waiting) is the harness's share of the wall time; it is told of
one process, whose cells do not overlap.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from common import PLUGIN, records, run, tell


def main() -> None:
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="test_resnet")
    parser.add_argument("--samples", type=int, default=10240, choices=(640, 1280, 2560, 5120, 10240))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    times: dict[int, list[float]] = {1: [], args.workers: []}
    shares: list[float] = []
    cell_seconds: list[float] = []
    with TemporaryDirectory() as folder:
        pair = [
            *("bench", "--config", "quick", "--plugin", PLUGIN, "--dataset", f"patterns{args.samples}"),
            *("--teacher", "test_resnet", "--student", args.student, "--teacher-epochs", "1", "--strategies", "ce"),
            *("--set", "recipe.batch_size=64"),
        ]
        base = Path(folder) / "base"
        run(*pair, "--epochs", "1", "--seeds", "1", "--out", base)
        for number in range(args.runs):
            for workers, seconds in times.items():
                store = shutil.copytree(base, Path(folder) / f"{number}-{workers}")
                done = run(
                    *pair, "--epochs", str(args.epochs), "--seeds", str(args.cells), "--out", store,
                    "--workers", str(workers),
                )  # fmt: skip
                seconds.append(done.seconds)
                if workers == 1:
                    costs = [one.cost for one in records(store) if one.cell.recipe.epochs == args.epochs and one.cost]
                    spent = [cost["train"] + cost["evaluate"] for cost in costs]
                    cell_seconds.append(statistics.median(spent))
                    shares.append(1 - sum(spent) / done.seconds)
    one, many = (statistics.median(values) for values in times.values())
    cell, share = statistics.median(cell_seconds), statistics.median(shares)
    result = {
        "seconds": {str(workers): [round(value, 1) for value in values] for workers, values in times.items()},
        "speedup": round(one / many, 3),
        "cell_seconds": round(cell, 1),
        "harness_seconds_per_cell": round(share * one / args.cells, 2),
        "harness_share_of_30s_cells": round(share * one / args.cells / (30 + share * one / args.cells), 4),
    }
    bounds = {"speedup": (1.35, None), "harness_share_of_30s_cells": (0.0, 0.05)}
    sys.exit(not tell("workers", vars(args), result, bounds))


if __name__ == "__main__":
    main()
