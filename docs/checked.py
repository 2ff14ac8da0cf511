"""What was checked of each built-in strategy: the kit's findings, and a real run; kept in checked.json for the cards.

    kdzoo bench --strategies all --seeds 1 --out /tmp/zoo-runs
    python docs/checked.py --runs /tmp/zoo-runs

The first command trains every strategy on the quick bench's pair; the second runs the conformance kit on each. With
names after it, the second one does that for these strategies only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

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
    kit = ", ".join(f"{count} {word}" for word, count in found["kit"].items())
    parts = [f"kit: {kit}"]
    if found["equation"]:
        parts.append(f"equation: {found['equation']}")
    if found["tests"]:
        parts.append(f"values and gradients against loops: `{found['tests']}`")
    if found["run"]:
        run = found["run"]
        parts.append(f"real run: {run['top1']:.2f} % on {run['where']} ({run['seeds']}), `ce` {run['ce']:.2f} %")
    return "Checked: " + "; ".join(parts) + "."


def check(entry: Registered[type[Strategy]], runs: dict[str, Any]) -> dict[str, Any]:
    """Run the kit on a strategy at its defaults."""
    found = list(findings(make_subject(entry, {}), select_checks(())))
    words = {"ok": "passed", "skip": "skipped", "warn": "with a warning", "fail": "failed"}
    counts = Counter(finding.status for finding in found)
    equation = next((one.text for one in found if one.check.name == "equation" and one.status == "ok"), "")
    return {
        "revision": entry.value.revision,
        "kit": {word: counts[status] for status, word in words.items() if counts[status]},
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
    where = f"{cell.data.name}, {cell.teacher.model} -> {cell.student}, recipe {cell.recipe.name}"
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    return {
        name: {
            "top1": round(mean, 2),
            "ce": round(means["ce"], 2),
            "where": where,
            "seeds": f"{len(scores[name])} seed" + "s" * (len(scores[name]) > 1),
        }
        for name, mean in means.items()
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="strategies; by default all")
    parser.add_argument("--runs", type=Path, help="store of the real runs")
    args = parser.parse_args()
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    entries = [one for one in Registry.load().strategies if one.plugin.distribution == "kdzoo"]
    runs = real_runs(args.runs)
    for entry in entries:
        if args.names and entry.name not in args.names:
            continue
        before = kept.get(entry.name, {}).get("run")
        kept[entry.name] = check(entry, runs or {entry.name: before})
        print(entry.name, kept[entry.name]["kit"], flush=True)
    known = {entry.name: kept[entry.name] for entry in entries if entry.name in kept}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
