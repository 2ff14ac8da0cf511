"""The table of docs/results.md that goes strategy by strategy over the published boards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from published import FOLDER, boards
from reference import ROOT, table

from kdzoo.board.printed import NONE, number
from kdzoo.registry import Registry

GRADIENTS = ROOT / "benchmarks" / "results" / "term_gradients.json"


def strategy_results(folder: Path = FOLDER) -> str:
    """For each strategy at its defaults, the difference to `ce` on each pair, and how its terms pull beside the labels.

    Args:
        folder: the published folder.
    """
    defaults = _defaults()
    pairs: dict[str, dict[str, str]] = {}
    for row in _rows(folder):
        found = pairs.setdefault(_title(row), {})
        if _is_default(row, defaults):
            found[row["strategy"]] = _difference(row)
    pulls = _pulls()
    names = sorted({name for found in pairs.values() for name in found})
    rows = [
        [f"`{name}`", *(found.get(name, NONE) for found in pairs.values()), pulls.get(name, NONE)] for name in names
    ]
    return table(rows, ["strategy", *pairs, "gradient beside the labels'"])


def other_weights(folder: Path = FOLDER) -> str:
    """The rows of the boards with other values than the defaults, and the same strategy at its defaults.

    Args:
        folder: the published folder.
    """
    rows, defaults = list(_rows(folder)), _defaults()
    usual = {(_title(row), row["strategy"]): row for row in rows if _is_default(row, defaults)}
    lines = []
    for row in rows:
        default = usual.get((_title(row), row["strategy"]))
        if default and default is not row:
            changed = {name: value for name, value in row["params"].items() if default["params"].get(name) != value}
            text = ", ".join(f"{name} {default['params'][name]:g} -> {value:g}" for name, value in changed.items())
            lines.append([_title(row), f"`{row['strategy']}`", text, _difference(default), _difference(row)])
    return table(sorted(lines), ["pair", "strategy", "change", "at the defaults", "changed"])


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows that are compared with `ce`."""
    for path in boards(folder):
        for group in json.loads(path.read_text(encoding="utf-8"))["groups"]:
            if not group["outdated"]:
                yield from (row for row in group["rows"] if row["diff_ce"] is not None)


def _is_default(row: dict[str, Any], defaults: dict[str, dict[str, Any]]) -> bool:
    """Whether a row has the defaults; a hyperparameter that came later is not in it."""
    values = defaults.get(row["strategy"], {})
    return {**values, **row["params"]} == values


def _defaults() -> dict[str, dict[str, Any]]:
    return {entry.name: entry.value.resolve({}) for entry in Registry.load().strategies}


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
    return {name: " / ".join(map(_rounded, values)) for name, values in sums.items()}


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
