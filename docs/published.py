"""The README's part on the published boards, made from ``leaderboards/DATASET/board.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reference import ROOT, table

from kdzoo.board.exports import BOARD_SCHEMA, markdown
from kdzoo.board.printed import NONE, interval_text, millions, number, seeds_text, strategy_text
from kdzoo.measures import TOP1

FOLDER = ROOT / "leaderboards"
TOP = 3
"""Rows of each pair that the README shows, beside the baseline; INTRODUCTION names the number."""

ABSENT = (
    "No boards are published here yet: `kdzoo publish RUNS --to leaderboards` makes them from runs, and\n"
    "`python docs/generate.py` puts their first rows here.\n"
)

INTRODUCTION = "The first three rows of each pair in [{link}]({link}/index.md), and the pair's `ce`:\n"
NOTE = """\
- `±`: standard deviation over the seeds.
- `vs ce`: mean difference to the student alone on the same seeds, with its 95% paired t interval.
- Bold: the interval excludes 0, in either direction. It is not corrected for the number of rows; the boards' pages have
  corrected p values.
- The first of many rows is partly luck. The boards show all rows.
"""


def boards(folder: Path = FOLDER) -> list[Path]:
    """The published boards, by dataset."""
    return sorted(folder.glob("*/board.json"))


def published_boards(folder: Path = FOLDER, within: Path = ROOT) -> str:
    """The first rows of every published board, as Markdown; a sentence that says how to make one where there is none.

    Args:
        folder: the published folder.
        within: what the links are relative to.

    Raises:
        RuntimeError: a board has another form than this kdzoo writes.
    """
    found = boards(folder)
    if not found:
        return ABSENT
    link = folder.relative_to(within).as_posix()
    parts = [_dataset(path.parent, f"{link}/{path.parent.name}") for path in found]
    return "\n".join([INTRODUCTION.format(link=link), *parts, NOTE])


def _dataset(folder: Path, link: str) -> str:
    board = json.loads((folder / "board.json").read_text(encoding="utf-8"))
    if board["board_schema"] != BOARD_SCHEMA:
        raise RuntimeError(f"{link}/board.json has another form: run `kdzoo publish --refresh --to {FOLDER.name}`")
    groups = [group for group in board["groups"] if not group["outdated"]]
    names = dict.fromkeys(row["dataset"] for group in groups for row in group["rows"])
    data = dict.fromkeys(group["data"] for group in groups)
    parts = [
        f"### {markdown(', '.join(names))}",
        f"{markdown('; '.join(data))}. [The whole board]({link}/board.md), with the same to sort and filter in "
        f"`{link}/board.html`.",
        *(part for group in groups for part in _pair(group)),
    ]
    if (folder / "plots" / "accuracy-parameters.svg").exists():
        parts.append(f"![Test accuracy with its 95% intervals]({link}/plots/accuracy-parameters.svg)")
    return "\n\n".join(parts) + "\n"


def _pair(group: dict[str, Any]) -> Iterator[str]:
    """The title, the facts and the table of one pair under one recipe."""
    rows = group["rows"]
    yield f"**{markdown(group['title'].partition(': ')[2] or group['title'])}**"
    yield "\n".join(f"- {markdown(fact)}" for fact in _facts(group, rows[0]))
    lines = [_cells(row) for row in _first(rows)]
    yield table([list(line.values()) for line in lines], list(lines[0])).rstrip() if lines else "No row is done."


def _facts(group: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    """What the table is about."""
    if row["teacher"]:
        size, top1 = millions(row["teacher_parameters"]), number(row["teacher_top1"])
        yield f"teacher: {row['teacher']}, {size} parameters, test top-1 {top1} %"
    yield f"student: {row['student']}, {millions(row['student_parameters'])} parameters"
    yield from (f"{word}: {group[word]}" for word in ("recipe", "tuning") if group[word])


def _first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first rows of a table and its baseline, in the board's order."""
    done = [row for row in rows if row["top1"] is not None]
    return [row for place, row in enumerate(done) if place < TOP or row["diff_ce_note"] == "baseline"]


def _cells(row: dict[str, Any]) -> dict[str, str]:
    spread = "" if row["top1_sd"] is None else f" ± {number(row['top1_sd'])}"
    cells = {
        "#": str(row["rank"]),
        "strategy": strategy_text(row | {"variant": ""}),
        "variant": row["variant"] or NONE,
        "top-1 %": number(row["top1"]) + spread,
        "vs ce": number(row["diff_ce"], sign=True),
        "95% interval": interval_text(row, TOP1),
        "seeds": seeds_text(row),
    }
    # The table escapes bars itself.
    shown = {name: markdown(cell).replace("\\|", "|") for name, cell in cells.items()}
    return {name: f"**{cell}**" if row["bold"] and cell != NONE else cell for name, cell in shown.items()}
