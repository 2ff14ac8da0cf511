"""Charts that compare strategies: differences to the baseline, and mean ranks over pairs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from kdzoo.board.overall import Overall
from kdzoo.board.overall_text import scope
from kdzoo.board.printed import RowValues, number
from kdzoo.drawing import NEUTRAL, PALETTE, SHAPES
from kdzoo.leaderboard.charts.parts import Chart, Point, chart, points, text, tooltip
from kdzoo.measures import TOP1, Measure

_STEP, _LEAST = 14, 26
_LINES = {"line": "line", "within": "pair", "step": _STEP, "least": _LEAST}
"""What the height follows: pixels for each pair of a strategy, and the least for all of them. A page reads it too."""


def forest_chart(rows: Sequence[RowValues], title: str = "", main: Measure = TOP1) -> Chart | None:
    """Mean difference to ``ce`` on the same seeds with its 95% interval, one line a strategy, the pairs in colours.

    Args:
        rows: of one group of a board.
        title: above the chart; none if empty.
        main: the measure that ranks them.

    Returns:
        The chart; None where no row has a difference.
    """
    found = [point for point in points(rows, main) if point["diff"] is not None]
    if not found:
        return None
    pairs = sorted({point["pair"] for point in found})
    colours = [PALETTE[place % len(PALETTE)] for place in range(len(pairs))]
    forms = [SHAPES[(place + place // len(PALETTE)) % len(SHAPES)] for place in range(len(pairs))]
    by_pair = {"field": "pair", "type": "nominal", "legend": {"title": "pair", "columns": 2, "labelLimit": 300}}
    y = {
        "field": "line",
        "type": "nominal",
        "sort": _by_mean(found, main),
        "axis": {"title": None, "grid": True, "tickBand": "extent"},
        "scale": {"paddingInner": 0.25},
    }
    offset = {"field": "pair", "type": "nominal"}
    difference = f"difference to ce{main.difference_words}"
    x = {"field": "diff", "type": "quantitative", "axis": {"title": difference, "tickCount": 8}}
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
                "strategy", "variant", "settings", "pair", ("diff", difference, f"+.{main.digits}f"),
                ("diff_interval", "95% interval"), ("diff_n", "shared seeds"), "dataset",
            ),
        },
    }  # fmt: skip
    zero["encoding"] = {"x": {"field": "zero", "type": "quantitative"}}
    height = len({point["line"] for point in found}) * max(_LEAST, _STEP * len(pairs))
    frame = chart(title, found, height=height, subtitle=_forest_words(main)) | {"usermeta": {"lines": _LINES}}
    return frame | {"layer": [zero, interval, mean]}


def _forest_words(main: Measure) -> str:
    side = "Right" if main.best == "highest" else "Left"
    return f"{side} of the line is better than ce; bars: 95% paired t intervals over the seeds that both have"


def _by_mean(found: Sequence[Point], main: Measure) -> list[str]:
    """The lines, the best mean difference over its pairs first."""
    differences: dict[str, list[float]] = defaultdict(list)
    for point in found:
        differences[point["line"]].append(point["diff"])
    return sorted(differences, key=lambda line: (-main.sign * fmean(differences[line]), line))


_LANE = "\u2063"
"""Marks the lines that hold bars. It is invisible, and a name that went through :func:`text` never has it."""


def rank_chart(overall: Overall, title: str = "") -> Chart | None:
    """Mean rank of each strategy, the best first, and bars over those that the critical difference does not tell apart.

    The form is that of Demsar (2006, JMLR 7: 1-30), with the strategies below one another instead of at the sides.

    Args:
        overall: a board summed up over its pairs.
        title: above the chart; none if empty.

    Returns:
        The chart; None where fewer than two strategies are complete on every pair, and so nothing is ranked.
    """
    ranked = [standing for standing in overall.standings if standing.mean_rank is not None]
    if not ranked:
        return None
    mean = {standing.text: standing.mean_rank or 0.0 for standing in ranked}
    dots = [
        {
            "name": text(standing.text),
            "strategy": text(standing.strategy),
            "variant": standing.variant,
            "rank": standing.mean_rank,
        }
        for standing in ranked
    ]
    bars = [
        {
            "lane": f"{_LANE}{lane}",
            "low": min(mean[name] for name in names),
            "high": max(mean[name] for name in names),
            "members": ", ".join(map(text, names)),
        }
        for lane, names in enumerate(names for names in overall.alike if len(names) > 1)
    ]
    lines = [bar["lane"] for bar in bars] + [dot["name"] for dot in dots]
    hidden = f"substring(datum.label, 0, 1) === '{_LANE}' ? '' : datum.label"
    axis = {"title": "mean rank (1 is best)", "orient": "top", "tickMinStep": 1}
    scale = {"domain": [1, max(2, math.ceil(max(mean.values())))], "padding": 12}
    x = {"field": "rank", "type": "quantitative", "axis": axis, "scale": scale}
    y = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": lines},
        "axis": {"title": None, "labelExpr": hidden, "ticks": False},
    }
    drop = {
        "mark": {"type": "rule", "color": NEUTRAL, "strokeDash": [2, 3], "opacity": 0.7},
        "encoding": {"x": x, "y": y, "y2": {"value": 0}},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "size": 80, "color": PALETTE[0], "opacity": 1},
        "encoding": {"x": x, "y": y, "tooltip": tooltip(("name", "strategy"), ("rank", "mean rank", ".2f"))},
    }
    bar = {
        "data": {"values": bars},
        "mark": {"type": "rule", "strokeWidth": 5, "strokeCap": "round", "color": NEUTRAL},
        "encoding": {
            "x": x | {"field": "low"},
            "x2": {"field": "high"},
            "y": y | {"field": "lane"},
            "tooltip": tooltip(("members", "not told apart")),
        },
    }
    frame = chart(title, dots, height=22 * len(lines), name="ranks", subtitle=_words(overall, bool(bars)))
    return frame | {"layer": [bar, drop, dot] if bars else [drop, dot]}


def _words(overall: Overall, bars: bool) -> str:
    words = [scope(overall)]
    if not overall.tested:
        words.append("too few to conclude from")
    elif overall.critical_difference is not None:
        words.append(f"critical difference {number(overall.critical_difference)} (Nemenyi)")
    if bars:
        words.append("a bar joins what it does not tell apart")
    return "; ".join(words)
