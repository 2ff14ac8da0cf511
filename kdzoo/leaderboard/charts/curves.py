"""Learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kdzoo.leaderboard.charts.parts import Chart, chart, tooltip
from kdzoo.leaderboard.charts.points import text


@dataclass(frozen=True)
class Curve:
    """One learning curve: what it is called, and top-1 on tune after each epoch, percent; None where not measured."""

    label: str
    top1: tuple[float | None, ...]


def curves_chart(curves: Sequence[Curve], title: str = "") -> Chart | None:
    """Top-1 on tune after each epoch that was measured, one line a curve.

    Args:
        curves: for example one a seed.
        title: above the chart; none if empty.

    Returns:
        The chart; None where no curve has a measured epoch.
    """
    data = [
        {"curve": text(curve.label), "epoch": epoch, "top1": round(top1, 2)}
        for curve in curves
        for epoch, top1 in enumerate(curve.top1, start=1)
        if top1 is not None
    ]
    if not data:
        return None
    whole = {"title": "epoch", "tickMinStep": 1, "format": "d", "grid": False}
    encoding = {
        "x": {"field": "epoch", "type": "quantitative", "axis": whole, "scale": {"nice": False, "zero": False}},
        "y": {"field": "top1", "type": "quantitative", "axis": {"title": "top-1 on tune, %"}, "scale": {"zero": False}},
        "color": {"field": "curve", "type": "nominal", "legend": {"title": None}, "sort": None},
        "tooltip": tooltip("curve", "epoch", ("top1", "top-1 on tune, %")),
    }
    mark = {"type": "line", "point": {"size": 28}, "strokeWidth": 1.6}
    return chart(title, data, height=220, name="curves") | {"mark": mark, "encoding": encoding}
