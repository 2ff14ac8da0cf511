"""`kdzoo find` beside the full tuned matrix: what each costs, and how good what each chooses is on test.

    python benchmarks/find.py --budget 120x --out runs-find

For each pair, in stores of their own: a bench of all strategies with 15 trials each and 5 seeds, and a race. The matrix
chooses its best row by test, which no honest choice may do: it is the most that a race could find. The cost is told in
trainings' worth of epochs, and in seconds of training and evaluation, teachers apart. With --out, the same command
resumes.

The target: a race costs at most a fifth of the matrix, and what it recommends is within 0.5 points of the matrix's best
on test, or within the 95% interval of that row's mean.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from common import tell

from kdzoo.board.stats import estimate
from kdzoo.cell import canonical_json
from kdzoo.record import Record
from kdzoo.store import Store

PAIRS = {
    "digits-vit": (
        *("--dataset", "digits", "--teacher", "resnet10t", "--student", "test_vit:patch_size=4"),
        *("--recipe", "transformer", "--epochs", "16", "--teacher-recipe", "quick", "--teacher-epochs", "12"),
    ),
    "fashion-cnn": (
        *("--dataset", "fashion_mnist[:6000]", "--teacher", "resnet10t", "--student", "test_byobnet"),
        *("--recipe", "clothing", "--teacher-epochs", "16"),
    ),
    "fashion-small-cnn": (
        *("--dataset", "fashion_mnist[:2000]", "--teacher", "resnet10t", "--student", "test_efficientnet"),
        *("--recipe", "clothing", "--teacher-epochs", "16"),
    ),
}
"""A transformer, a convolutional student on a subset, and one with so few images that its teacher is well ahead."""

SHARE, POINTS = 0.2, 0.5
_WEIGHTS = re.compile(r"cells/([0-9a-f]{16})/student\.safetensors")


def kdzoo(*arguments: str) -> str:
    """What a command prints; that a strategy cannot serve a pair, or that a cell failed, is no reason to stop."""
    command = [sys.executable, "-c", "from kdzoo.cli import main; main()", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(arguments)} ended with exit code {done.returncode}")
    return done.stdout


def cost(records: Sequence[Record]) -> tuple[float, float]:
    """Trainings' worth of epochs, and seconds of training and evaluation; of the rungs of a setting the highest."""
    furthest: dict[str, Record] = {}
    for record in records:
        if not record.cell.teaches:
            key = canonical_json(record.cell.model_copy(update={"until": 0}).model_dump(mode="json"))
            furthest[key] = max(furthest.get(key, record), record, key=lambda one: len(one.curve))
    trained = furthest.values()
    seconds = sum(record.cost["train"] + record.cost["evaluate"] for record in trained if record.cost)
    return sum(len(record.curve) / record.cell.recipe.epochs for record in trained), seconds


def scores(records: Sequence[Record]) -> dict[str, list[float]]:
    """The main measure on test of each setting that is done on all its seeds, by the setting's text."""
    rows: dict[str, list[float | None]] = defaultdict(list)
    for record in sorted(records, key=lambda one: one.cell.seed):
        if record.cell.kind == "student":
            score = record.test[record.main.name] if record.test else None
            rows[canonical_json(record.cell.strategy.model_dump(mode="json"))].append(score)
    return {text: [one for one in row if one is not None] for text, row in rows.items() if None not in row}


def compare(pair: Sequence[str], args: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Both ways on one pair."""
    shared = (*pair, "--strategies", args.strategies, "--seeds", str(args.seeds), *args.flags.split())
    matrix, race = out / "matrix", out / "race"
    kdzoo("bench", *shared, "--tune", str(args.trials), "--out", str(matrix))
    found = kdzoo("find", *shared, "--budget", args.budget, "--out", str(race))
    cell = _WEIGHTS.search(found)
    if cell is None:
        sys.exit(f"the race of {' '.join(pair)} recommends nothing:\n{found}")
    tried, raced = Store.open(matrix).records(), Store.open(race).records()
    chosen = Store.open(race).record(cell[1])
    name = canonical_json(chosen.cell.strategy.model_dump(mode="json"))
    rows, mine = scores(tried), scores(raced)[name]
    best = max(rows, key=lambda text: fmean(rows[text]))
    alone = next(row for text, row in rows.items() if '"name":"ce"' in text)
    most = estimate(rows[best])
    (matrix_trainings, matrix_seconds), (trainings, seconds) = cost(tried), cost(raced)
    behind = fmean(rows[best]) - fmean(mine)
    inside = most.low is not None and fmean(mine) >= most.low
    share = trainings / matrix_trainings
    return {
        "trainings": {"matrix": round(matrix_trainings, 1), "find": round(trainings, 1)},
        "seconds": {"matrix": round(matrix_seconds), "find": round(seconds)},
        "ce": round(fmean(alone), 2),
        "best of the matrix": {"row": best, "test": round(fmean(rows[best]), 2), "low": most.low, "high": most.high},
        "find": {"row": name, "test": round(fmean(mine), 2), "behind": round(behind, 2)},
        "share": round(share, 3),
        "missed": 0.0 if inside else round(max(0.0, behind), 2),
    }


def main() -> None:
    """Measure; exit code 1 if a pair misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default=",".join(PAIRS), help="comma-separated")
    parser.add_argument("--strategies", default="all")
    parser.add_argument("--budget", default="120x")
    parser.add_argument("--trials", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--flags", default="", help="more flags for both commands, such as '--data-dir data'")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        found = {name: compare(PAIRS[name], args, out / name) for name in args.pairs.split(",")}
    figures = {f"{name}: {figure}": one[figure] for name, one in found.items() for figure in ("share", "missed")}
    bounds = {figure: (0.0, SHARE if figure.endswith("share") else POINTS) for figure in figures}
    if not tell("find", vars(args) | {"out": str(args.out or "")}, found | figures, bounds):
        sys.exit(1)


if __name__ == "__main__":
    main()
