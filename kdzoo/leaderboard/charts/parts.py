"""The frame and the points that the charts of a board share. Names lose what would act in them."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from kdzoo.board.labels import params_text
from kdzoo.board.printed import RowValues, millions, number
from kdzoo.drawing import NEUTRAL, PALETTE, SHAPES
from kdzoo.foreign import printable
from kdzoo.measures import Measure

Point = dict[str, Any]

_LONGEST = 90
_WIDEST = 0.05
"""Largest distance of a point from its student's true size, as a share of the axis."""


def text(name: str) -> str:
    """A name from a record as a chart or a heading may show it: visible, and not too long."""
    return printable(name, _LONGEST)


def points(rows: Sequence[RowValues], main: Measure) -> list[Point]:
    """One point a row, in the order of the rows.

    Args:
        rows: of one group of a board.
        main: the measure that ranks them.

    Returns:
        For each: ``row``, its place among the rows; ``searched``: ``default``, ``tuned`` or nothing; names as texts,
        sizes, accuracy and differences as numbers or None, ready-made texts for a tooltip, and ``x``: the student's
        parameters, moved a little on the log scale by the strategy, so that strategies of one student stand side by
        side.
    """
    offsets = _offsets(rows)
    labels = _line_labels(rows)
    return [
        {
            "row": place,
            "dataset": text(f"{row['dataset']} {row['img_size']}"),
            "pair": pair_label(row),
            "strategy": text(row["strategy"]),
            "variant": text(row.get("variant") or ""),
            "searched": _searched(row.get("variant") or ""),
            "family": text(row["family"]),
            "line": labels[place],
            "settings": text(params_text(row["params"])),
            "teacher": text(row["teacher"]),
            "teacher_parameters": row["teacher_parameters"],
            main.on("teacher"): row[main.on("teacher")],
            "student": text(row["student"]),
            "parameters": row["student_parameters"],
            "size": millions(row["student_parameters"]),
            "x": _moved(row["student_parameters"], offsets[row["strategy"]]),
            main.name: row[main.name],
            "low": row[f"{main.name}_low"],
            "high": row[f"{main.name}_high"],
            "interval": _interval(row, main.name, main.digits),
            "n": row["done"],
            "diff": row["diff_ce"],
            "diff_low": row["diff_ce_low"],
            "diff_high": row["diff_ce_high"],
            "diff_interval": _interval(row, "diff_ce", main.digits, sign=True),
            "diff_n": row["diff_ce_n"],
        }
        for place, row in enumerate(rows)
    ]


def pair_label(row: RowValues) -> str:
    """The pair in a few words."""
    return f"{text(row['teacher'])} → {text(row['student'])}" if row["teacher"] else text(row["student"])


def series(found: Sequence[Point]) -> tuple[list[str], list[str], list[str]]:
    """Names of the strategies, and the colour and the form of each. The baseline comes first, in a neutral colour."""
    names = sorted({point["strategy"] for point in found}, key=lambda name: (name != "ce", name))
    others = [name for name in names if name != "ce"]
    look = {"ce": (NEUTRAL, SHAPES[0])}
    for place, name in enumerate(others):
        # Colours and forms change together, and differ when the colours begin anew.
        form = (place + place // len(PALETTE)) % len(SHAPES)
        look[name] = (PALETTE[place % len(PALETTE)], SHAPES[form])
    return names, [look[name][0] for name in names], [look[name][1] for name in names]


def _line_labels(rows: Sequence[RowValues]) -> list[str]:
    """What a row is called beside the other rows of its pair: its parameters too, where the name is not enough."""
    short = [f"{row['strategy']} ({row['variant']})" if row.get("variant") else str(row["strategy"]) for row in rows]
    taken = Counter((name, row["teacher"], row["student"]) for name, row in zip(short, rows, strict=True))
    unclear = {name for (name, _, _), count in taken.items() if count > 1}
    return [
        text(f"{name} {params_text(row['params'])}".strip() if name in unclear else name)
        for name, row in zip(short, rows, strict=True)
    ]


def _offsets(rows: Sequence[RowValues]) -> dict[str, float]:
    """How far each strategy stands from the true size, decades; the points of two students never mix."""
    names = sorted({row["strategy"] for row in rows})
    sizes = sorted({math.log10(row["student_parameters"]) for row in rows if row["student_parameters"]})
    gaps = [larger - smaller for smaller, larger in pairwise(sizes)]
    reach = min([_WIDEST * max(sum(gaps), 0.1), *(0.38 * gap for gap in gaps)])
    middle = (len(names) - 1) / 2
    return {name: reach * (place - middle) / max(middle, 1) for place, name in enumerate(names)}


def _searched(variant: str) -> str:
    """``tuned`` for a winner, ``found`` for what a race chose, also where it is the default."""
    return next((word for word in ("tuned", "found", "default") if word in variant), "")


def _moved(parameters: int | None, decades: float) -> float | None:
    return None if parameters is None else round(parameters * 10**decades, 1)


def _interval(row: RowValues, name: str, digits: int, *, sign: bool = False) -> str:
    low, high, note = (row.get(f"{name}_{end}") for end in ("low", "high", "note"))
    if low is None or high is None:
        return f"none ({note})" if note else "none"
    return f"{number(low, digits, sign=sign)} to {number(high, digits, sign=sign)}"


Chart = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDTH = 680
_LETTERS = 84
"""Of a title; of the smaller words below it, a third more fit."""


def chart(
    title: str, data: Sequence[Mapping[str, Any]], *, height: int, name: str = "rows", subtitle: str | list[str] = ""
) -> Chart:
    """The frame of a chart, to which marks are added.

    Args:
        title: above it; none if empty.
        data: its data set.
        height: pixels, without axes and legends.
        name: of the data set, by which a page replaces it.
        subtitle: in words, below the title; several lines as a list. Long lines are broken.
    """
    frame: Chart = {"$schema": _SCHEMA, "width": _WIDTH, "height": height, "data": {"name": name, "values": list(data)}}
    frame["autosize"] = {"type": "fit-x", "contains": "padding"}
    if title or subtitle:
        lines = [subtitle] if isinstance(subtitle, str) else subtitle
        words = [part for line in lines for part in textwrap.wrap(line, _LETTERS * 4 // 3)]
        frame["title"] = {"text": textwrap.wrap(text(title), _LETTERS) or ""} | ({"subtitle": words} if words else {})
    return frame


def tooltip(*fields: str | tuple[str, str] | tuple[str, str, str]) -> list[Chart]:
    """Fields by their names, or with a title of their own; numbers with their format too."""
    found: list[Chart] = []
    for field in fields:
        name, title, *form = (field, field) if isinstance(field, str) else field
        kind = {"type": "quantitative", "format": form[0]} if form else {"type": "nominal"}
        found.append({"field": name, "title": title} | kind)
    return found


def fill(found: Sequence[Mapping[str, Any]]) -> Chart:
    """How marks are filled: hollow for the default where there are tuned rows too."""
    if not any(point["searched"] for point in found):
        return {"value": 1}
    domain, filled = ["default", "tuned"], [0.1, 1]
    if any(point["searched"] == "found" for point in found):
        domain, filled = [*domain, "found"], [*filled, 1]
    return {
        "field": "searched",
        "type": "ordinal",
        "scale": {"domain": domain, "range": filled},
        "legend": {"title": "variant", "symbolFillColor": NEUTRAL, "symbolStrokeColor": NEUTRAL},
    }


def fill_words(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What :func:`fill` means, in words; nothing where all marks are full."""
    if not any(point["searched"] for point in found):
        return []
    found_too = " or found" if any(point["searched"] == "found" for point in found) else ""
    return [f"hollow: default values; full: tuned{found_too} ones, or a default that won its search"]
