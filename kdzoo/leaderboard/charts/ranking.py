"""The rank diagram: mean ranks over pairs, and what the critical difference does not tell apart."""

from __future__ import annotations

import math

from kdzoo.board.display import number
from kdzoo.board.overall import Overall
from kdzoo.board.overall_text import scope
from kdzoo.drawing import NEUTRAL, PALETTE
from kdzoo.leaderboard.charts.parts import Chart, chart, tooltip
from kdzoo.leaderboard.charts.points import text

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
        "encoding": {"x": x, "y": y, "tooltip": tooltip(("name", "strategy"), ("rank", "mean rank"))},
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
