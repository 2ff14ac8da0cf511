"""The table of docs/results.md that goes strategy by strategy over the published boards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from published import FOLDER, boards
from reference import ROOT, table

from kdzoo.board.printed import NONE, number

GRADIENTS = ROOT / "benchmarks" / "results" / "term_gradients.json"


def strategy_results(folder: Path = FOLDER) -> str:
    """For each strategy at its defaults, the difference to `ce` on each pair, and how its terms pull beside the labels.

    Args:
        folder: the published folder.
    """
    pairs: dict[str, dict[str, str]] = {}
    for path in boards(folder):
        for group in json.loads(path.read_text(encoding="utf-8"))["groups"]:
            if not group["outdated"]:
                found = {row["strategy"]: _difference(row) for row in group["rows"] if _counts(row)}
                pairs[_title(group["rows"][0])] = found
    pulls = _pulls()
    names = sorted({name for found in pairs.values() for name in found})
    rows = [
        [f"`{name}`", *(found.get(name, NONE) for found in pairs.values()), pulls.get(name, NONE)] for name in names
    ]
    return table(rows, ["strategy", *pairs, "gradient beside the labels'"])


def _counts(row: dict[str, Any]) -> bool:
    """Whether it is a row at the defaults that is compared with `ce`."""
    return row["diff_ce"] is not None and row["variant"] in ("", "default", "default, tuned")


def _title(row: dict[str, Any]) -> str:
    return f"{row['dataset']}, {row['student'].partition(':')[0]}"


def _difference(row: dict[str, Any]) -> str:
    text = number(row["diff_ce"], sign=True)
    return f"**{text}**" if row["bold"] else text


def _pulls() -> dict[str, str]:
    """By strategy, the ratio of the term that pulls most, for each student that was measured."""
    if not GRADIENTS.exists():
        return {}
    students = json.loads(GRADIENTS.read_text(encoding="utf-8"))["result"]["ratios"].values()
    sums: dict[str, list[float]] = {}
    for strategies in students:
        for name, terms in strategies.items():
            others = [ratio for term, ratio in terms.items() if term != "ce"]
            if others:
                sums.setdefault(name, []).append(max(others))
    return {name: " / ".join(f"{value:.2g}" for value in values) for name, values in sums.items()}
