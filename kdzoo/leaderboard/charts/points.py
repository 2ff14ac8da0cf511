"""Rows of a board as the flat points that charts draw, and how their series look. Names lose what would act in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from kdzoo.board.display import millions, number
from kdzoo.board.labels import params_text
from kdzoo.drawing import NEUTRAL, PALETTE, SHAPES
from kdzoo.foreign import printable

Row = Mapping[str, Any]
"""One row of a board's frame as plain values, with ``params`` as a mapping; see :mod:`kdzoo.board.columns`."""

Point = dict[str, Any]

_LONGEST = 90
_WIDEST = 0.05
"""Largest distance of a point from its student's true size, as a share of the axis."""


def text(name: str) -> str:
    """A name from a record as a chart or a heading may show it: visible, and not too long."""
    return printable(name, _LONGEST)


def points(rows: Sequence[Row]) -> list[Point]:
    """One point a row, in the order of the rows.

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
            "pair": pair_text(row),
            "strategy": text(row["strategy"]),
            "variant": text(row.get("variant") or ""),
            "searched": _searched(row.get("variant") or ""),
            "family": text(row["family"]),
            "line": labels[place],
            "settings": text(params_text(row["params"])),
            "teacher": text(row["teacher"]),
            "teacher_parameters": row["teacher_parameters"],
            "teacher_top1": row["teacher_top1"],
            "student": text(row["student"]),
            "parameters": row["student_parameters"],
            "size": millions(row["student_parameters"]),
            "x": _moved(row["student_parameters"], offsets[row["strategy"]]),
            "top1": row["top1"],
            "low": row["top1_low"],
            "high": row["top1_high"],
            "interval": _interval(row["top1_low"], row["top1_high"], row.get("top1_note") or ""),
            "n": row["done"],
            "diff": row["diff_ce"],
            "diff_low": row["diff_ce_low"],
            "diff_high": row["diff_ce_high"],
            "diff_interval": _interval(row["diff_ce_low"], row["diff_ce_high"], row["diff_ce_note"], sign=True),
            "diff_n": row["diff_ce_n"],
        }
        for place, row in enumerate(rows)
    ]


def pair_text(row: Row) -> str:
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


def _line_labels(rows: Sequence[Row]) -> list[str]:
    """What a row is called beside the other rows of its pair: its parameters too, where the name is not enough."""
    short = [f"{row['strategy']} ({row['variant']})" if row.get("variant") else str(row["strategy"]) for row in rows]
    taken = Counter((name, row["teacher"], row["student"]) for name, row in zip(short, rows, strict=True))
    unclear = {name for (name, _, _), count in taken.items() if count > 1}
    return [
        text(f"{name} {params_text(row['params'])}".strip() if name in unclear else name)
        for name, row in zip(short, rows, strict=True)
    ]


def _offsets(rows: Sequence[Row]) -> dict[str, float]:
    """How far each strategy stands from the true size, decades; the points of two students never mix."""
    names = sorted({row["strategy"] for row in rows})
    sizes = sorted({math.log10(row["student_parameters"]) for row in rows if row["student_parameters"]})
    gaps = [larger - smaller for smaller, larger in pairwise(sizes)]
    reach = min([_WIDEST * max(sum(gaps), 0.1), *(0.38 * gap for gap in gaps)])
    middle = (len(names) - 1) / 2
    return {name: reach * (place - middle) / max(middle, 1) for place, name in enumerate(names)}


def _searched(variant: str) -> str:
    """``tuned`` for a winner, also for one that is the default."""
    return next((word for word in ("tuned", "default") if word in variant), "")


def _moved(parameters: int | None, decades: float) -> float | None:
    return None if parameters is None else round(parameters * 10**decades, 1)


def _interval(low: float | None, high: float | None, note: str, *, sign: bool = False) -> str:
    if low is None or high is None:
        return f"none ({note})" if note else "none"
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"
