"""Cells in lockstep against the same cells one after the other, with the teacher in the loop, as wall time of commands.

    python benchmarks/lockstep.py --teacher resnet50 --student mobilenetv3_small_050 --samples 1280 --epochs 2

Both train soft, fitnets, at and rkd on the same seeds in a store whose teacher and `ce` cells are there. The records of
both are compared: they must be equal.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from common import PLUGIN, records, run, tell

from kdzoo.cell import canonical_json

STRATEGIES = ("soft", "fitnets", "at", "rkd")


def main() -> None:
    """Measure; exit code 1 if the records differ or lockstep gains nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--samples", type=int, default=1280, choices=(640, 1280, 2560, 5120, 10240))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    times: dict[int, list[float]] = {1: [], len(STRATEGIES): []}
    outcomes = {}
    with TemporaryDirectory() as folder:
        pair = [
            *("bench", "--config", "quick", "--plugin", PLUGIN, "--dataset", f"patterns{args.samples}"),
            *("--teacher", args.teacher, "--student", args.student, "--teacher-epochs", "1"),
            *("--epochs", str(args.epochs), "--seeds", str(args.seeds), "--bank", "off"),
            *("--set", "recipe.batch_size=64"),
        ]
        base = Path(folder) / "base"
        run(*pair, "--strategies", "ce", "--out", base)
        for number in range(args.runs):
            for together, seconds in times.items():
                store = shutil.copytree(base, Path(folder) / f"{number}-{together}")
                done = run(*pair, "--strategies", ",".join(STRATEGIES), "--out", store, "--lockstep", str(together))
                seconds.append(done.seconds)
                outcomes[together] = {record.id: record.outcome() for record in records(store)}
    one, many = (statistics.median(values) for values in times.values())
    result = {
        "seconds": {str(together): [round(value, 1) for value in values] for together, values in times.items()},
        "speedup": round(one / many, 2),
        "equal_records": len({canonical_json(outcome) for outcome in outcomes.values()}) == 1,
    }
    sys.exit(not tell("lockstep", vars(args), result, {"speedup": (1.0, None), "equal_records": (1, None)}))


if __name__ == "__main__":
    main()
