"""The difference to the baseline of every row as a forest plot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from kdzoo.drawing import NEUTRAL, PALETTE, SHAPES
from kdzoo.leaderboard.charts.parts import Chart, chart, tooltip
from kdzoo.leaderboard.charts.points import Point, Row, points

_STEP, _LEAST = 14, 26
_LINES = {"line": "line", "within": "pair", "step": _STEP, "least": _LEAST}
"""What the height follows: pixels for each pair of a strategy, and the least for all of them. A page reads it too."""

_WORDS = "Right of the line is better than ce; bars: 95% paired t intervals over the seeds that both have"


def forest_chart(rows: Sequence[Row], title: str = "") -> Chart | None:
    """Mean difference to ``ce`` on the same seeds with its 95% interval, one line a strategy, the pairs in colours.

    Args:
        rows: of one group of a board.
        title: above the chart; none if empty.

    Returns:
        The chart; None where no row has a difference.
    """
    found = [point for point in points(rows) if point["diff"] is not None]
    if not found:
        return None
    pairs = sorted({point["pair"] for point in found})
    colours = [PALETTE[place % len(PALETTE)] for place in range(len(pairs))]
    forms = [SHAPES[(place + place // len(PALETTE)) % len(SHAPES)] for place in range(len(pairs))]
    by_pair = {"field": "pair", "type": "nominal", "legend": {"title": "pair", "columns": 2, "labelLimit": 300}}
    y = {
        "field": "line",
        "type": "nominal",
        "sort": _by_mean(found),
        "axis": {"title": None, "grid": True, "tickBand": "extent"},
        "scale": {"paddingInner": 0.25},
    }
    offset = {"field": "pair", "type": "nominal"}
    x = {"field": "diff", "type": "quantitative", "axis": {"title": "difference to ce, points", "tickCount": 8}}
    shared = {"y": y, "yOffset": offset, "color": by_pair | {"scale": {"domain": pairs, "range": colours}}}
    zero = {"data": {"values": [{"zero": 0}]}, "mark": {"type": "rule", "color": NEUTRAL, "strokeWidth": 1.5}}
    interval = {
        "transform": [{"filter": "isValid(datum.diff_low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.8},
        "encoding": shared | {"x": x | {"field": "diff_low"}, "x2": {"field": "diff_high"}},
    }
    mean = {
        "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
        "encoding": shared
        | {
            "x": x,
            "shape": by_pair | {"scale": {"domain": pairs, "range": forms}},
            "tooltip": tooltip(
                "strategy", "variant", "settings", "pair", ("diff", "difference to ce, points"),
                ("diff_interval", "95% interval"), ("diff_n", "shared seeds"), "dataset",
            ),
        },
    }  # fmt: skip
    zero["encoding"] = {"x": {"field": "zero", "type": "quantitative"}}
    height = len({point["line"] for point in found}) * max(_LEAST, _STEP * len(pairs))
    frame = chart(title, found, height=height, subtitle=_WORDS) | {"usermeta": {"lines": _LINES}}
    return frame | {"layer": [zero, interval, mean]}


def _by_mean(found: Sequence[Point]) -> list[str]:
    """The lines, the highest mean difference over its pairs first."""
    differences: dict[str, list[float]] = defaultdict(list)
    for point in found:
        differences[point["line"]].append(point["diff"])
    return sorted(differences, key=lambda line: (-fmean(differences[line]), line))
