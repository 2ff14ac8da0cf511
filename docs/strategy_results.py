"""The tables of docs/results.md that go strategy by strategy over the published boards.

``python docs/strategy_results.py FOLDER`` prints those of the weights for any folder that ``kdzoo publish`` made.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from published import FOLDER, boards
from reference import ROOT, table

from kdzoo.board.printed import NONE, number
from kdzoo.cell import BALANCED
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


PAPER, TUNED = "paper", "tuned"

Weighed = dict[str, dict[str, dict[str, Any]]]
"""Rows by strategy and by how it came to its weights."""


def three_weights(folder: Path = FOLDER) -> str:
    """For each pair with balanced rows, the difference to `ce` at the papers' weights, balanced and tuned; and what can
    be said of all strategies together.

    Args:
        folder: the published folder.
    """
    found = _weighed(folder)
    if not found:
        return "No published board has balanced rows.\n"
    parts = []
    for title, strategies in found.items():
        ways = [PAPER, *sorted({way for rows in strategies.values() for way in rows} - {PAPER, TUNED}), TUNED]
        rows = [
            [f"`{name}`", *(_difference(rows[way]) if way in rows else NONE for way in ways)]
            for name, rows in sorted(strategies.items())
        ]
        parts.append(f"**{title}**\n\n{table(rows, ['strategy', *ways])}\n{_together(strategies, ways)}")
    return "\n".join(parts)


def _together(strategies: Weighed, ways: Sequence[str]) -> str:
    """Each way over the strategies that have all of the ways that occur."""
    there = [way for way in ways if any(way in rows for rows in strategies.values())]
    shared = [rows for rows in strategies.values() if all(way in rows for way in there)]
    lines = []
    for way in there if shared else ():
        differences = [rows[way]["diff_ce"] for rows in shared]
        bold = [rows[way]["diff_ce"] for rows in shared if rows[way]["bold"]]
        apart = [abs(rows[way]["diff_ce"] - rows[TUNED]["diff_ce"]) for rows in shared] if TUNED in there else []
        lines.append(
            [
                way,
                str(len(shared)),
                number(mean(differences), sign=True),
                number(min(differences), sign=True),
                f"{sum(one > 0 for one in bold)} / {sum(one < 0 for one in bold)}",
                number(mean(apart)) if apart else NONE,
            ]
        )
    return table(lines, ["weights", "strategies", "mean", "lowest", "bold above / below", "mean distance to tuned"])


def _weighed(folder: Path) -> dict[str, Weighed]:
    """The rows by pair, of the strategies that have balanced ones."""
    defaults, found = _defaults(), defaultdict[str, Weighed](lambda: defaultdict(dict))
    for row in _rows(folder):
        if way := _way(row, defaults):
            found[_title(row)][row["strategy"].removesuffix(BALANCED)][way] = row
    balanced = {
        title: {name: rows for name, rows in strategies.items() if rows.keys() - {PAPER, TUNED}}
        for title, strategies in found.items()
    }
    return {title: strategies for title, strategies in sorted(balanced.items()) if strategies}


def _way(row: dict[str, Any], defaults: Mapping[str, dict[str, Any]]) -> str:
    """How a row came to its weights; empty where they were set by hand."""
    name, params = row["strategy"].removesuffix(BALANCED), dict(row["params"])
    ratio = params.pop("balance", None) if row["strategy"].endswith(BALANCED) else None
    if _is_default({"strategy": name, "params": params}, defaults):
        return PAPER if ratio is None else f"balanced, {ratio:g}"
    return TUNED if TUNED in row["variant"] and ratio is None else ""


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows that are compared with `ce`."""
    for path in boards(folder):
        for group in json.loads(path.read_text(encoding="utf-8"))["groups"]:
            if not group["outdated"]:
                yield from (row for row in group["rows"] if row["diff_ce"] is not None)


def _is_default(row: Mapping[str, Any], defaults: Mapping[str, dict[str, Any]]) -> bool:
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


if __name__ == "__main__":
    print(three_weights(Path(sys.argv[1])))
