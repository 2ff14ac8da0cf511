"""What was checked of each built-in strategy: the kit's findings, and a real run; kept in checked.json for the cards.

    kdzoo bench --strategies all --dataset digits --student test_resnet --teacher-epochs 5 --seeds 1 --out /tmp/zoo-runs
    python docs/checked.py --runs /tmp/zoo-runs

The first command trains every strategy on a small pair; the second runs the conformance kit on each. With
names after it, the second one does that for these strategies only; with --runs-only, it takes the runs and leaves what
the kit found.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from kdzoo.errors import counted
from kdzoo.registry import Registered, Registry
from kdzoo.store import Store
from kdzoo.strategy import Strategy
from kdzoo.testing.checks import findings, select_checks
from kdzoo.testing.kit import make_subject
from kdzoo_zoo import functional

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "checked.json"


def checked_text(entry: Registered[type[Strategy]]) -> str:
    """What a card's reader is told; empty where the strategy's present revision was not checked."""
    everything = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found = everything.get(entry.name)
    if not found or found["revision"] != entry.value.revision:
        return ""
    parts = [f"conformance kit {kit_text(found['kit'], found.get('warnings', []))}"]
    if found["equation"]:
        parts.append(equation_text(found["equation"]))
    if found["tests"]:
        parts.append(f"loss and gradients agree with loops (`{found['tests']}`)")
    if found["run"]:
        run = found["run"]
        scores = f"{run['top1']:.1f} % (`ce` {run['ce']:.1f} %)"
        parts.append(f"one run: {scores}, {run['data']}, {run['epochs']} epochs, {run['seeds']}")
    return "Checked: " + "; ".join(parts) + "."


def kit_text(counts: dict[str, int], warnings: list[str]) -> str:
    """How many checks of the kit passed, were skipped and warned, and which ones warned where that is known."""
    kit = dict(counts)
    warned = kit.pop("with a warning", 0)
    pieces = [f"{count} {word}" for word, count in kit.items()]
    if warned:
        names = f" ({', '.join(warnings)})" if warnings else ""
        pieces.append(f"{counted(warned, 'warning')}{names}")
    return ", ".join(pieces)


def equation_text(said: str) -> str:
    """What the kit's check of the equation compared, in words.

    Args:
        said: its finding, such as ``as the equation says: CE with ce_weight 1, temperature squared (...)``.
    """
    compared = {
        "CE with ce_weight": "the weight of the hard labels",
        " squared (": "the scale of the gradient in T",
        "summed over the classes": "the sum over the classes",
    }
    found = [words for piece, words in compared.items() if piece in said]
    start, last = found[:-1], found[-1]
    return f"{', '.join(start)} and {last} agree with the equation" if start else f"{last} agrees with the equation"


def check(entry: Registered[type[Strategy]], runs: dict[str, Any]) -> dict[str, Any]:
    """Run the kit on a strategy at its defaults."""
    found = list(findings(make_subject(entry, {}), select_checks(())))
    words = {"ok": "passed", "skip": "skipped", "warn": "with a warning", "fail": "failed"}
    counts = Counter(finding.status for finding in found)
    equation = next((one.text for one in found if one.check.name == "equation" and one.status == "ok"), "")
    return {
        "revision": entry.value.revision,
        "kit": {word: counts[status] for status, word in words.items() if counts[status]},
        "warnings": [finding.check.name for finding in found if finding.status == "warn"],
        "equation": equation,
        "tests": tests_of(entry.value),
        "run": runs.get(entry.name),
    }


def tests_of(kind: type[Strategy]) -> str:
    """The file of tests that names a strategy's class, or a loss of its module; empty where there is none."""
    module = sys.modules[kind.__module__]
    names = {kind.__name__, *(name for name in functional.__all__ if hasattr(module, name))}
    own = {name for name in names if getattr(getattr(module, name), "__module__", "") == kind.__module__}
    pattern = re.compile(rf"\b({'|'.join(sorted(own))})\b")
    tests = sorted((ROOT / "tests" / "zoo").glob("test_*.py"))
    counted = {
        path: len(pattern.findall(path.read_text(encoding="utf-8"))) for path in tests if "zoo_" not in path.name
    }
    best = max(counted, key=lambda path: counted[path])
    return best.relative_to(ROOT).as_posix() if counted[best] else ""


def real_runs(store: Path | None) -> dict[str, Any]:
    """Top-1 on test of each strategy in a store, beside that of `ce`."""
    records = [one for one in Store.open(store).records() if one.cell.kind == "student"] if store else []
    scores: dict[str, list[float]] = {}
    for record in records:
        if record.status == "done" and record.test:
            scores.setdefault(record.cell.strategy.name, []).append(record.test["top1"])
    if not scores:
        return {}
    cell = records[0].cell
    assert cell.teacher is not None
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    return {
        name: {
            "top1": round(mean, 2),
            "ce": round(means["ce"], 2),
            "data": cell.data.name,
            "epochs": cell.recipe.epochs,
            "pair": f"{cell.teacher.model} -> {cell.student}",
            "seeds": counted(len(scores[name]), "seed"),
        }
        for name, mean in means.items()
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="strategies; by default all")
    parser.add_argument("--runs", type=Path, help="store of the real runs")
    parser.add_argument("--runs-only", action="store_true", help="leave what the kit found as it is")
    args = parser.parse_args()
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    entries = [one for one in Registry.load().strategies if one.plugin.distribution == "kdzoo"]
    runs = real_runs(args.runs)
    for entry in entries:
        if args.names and entry.name not in args.names:
            continue
        if args.runs_only:
            if entry.name in kept:
                kept[entry.name]["run"] = runs.get(entry.name, kept[entry.name]["run"])
            continue
        before = kept.get(entry.name, {}).get("run")
        kept[entry.name] = check(entry, runs or {entry.name: before})
        print(entry.name, kept[entry.name]["kit"], flush=True)
    known = {entry.name: kept[entry.name] for entry in entries if entry.name in kept}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
