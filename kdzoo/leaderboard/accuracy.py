"""Accuracy against parameters: every row, the teachers and the Pareto front, which is found within the chart."""

from __future__ import annotations

from collections.abc import Sequence

from kdzoo.board.figures import NEUTRAL
from kdzoo.leaderboard.parts import Chart, chart, fill, tooltip
from kdzoo.leaderboard.points import Row, points, series

_STAR = "M0,-1L0.24,-0.32L0.95,-0.31L0.38,0.12L0.59,0.81L0,0.4L-0.59,0.81L-0.38,0.12L-0.95,-0.31L-0.24,-0.32Z"
_WORDS = [
    "Bars: 95% t intervals over seeds; dashed line and rings: Pareto front; star and dotted line: teacher;",
    "the strategies of one student stand side by side, not at sizes of their own",
]


def accuracy_chart(rows: Sequence[Row], title: str = "") -> Chart | None:
    """Test top-1 against the student's parameters: every row with its 95% interval, the teachers, the Pareto front.

    A row is on the front where no other has as few parameters and is more accurate, or fewer and as accurate.

    Args:
        rows: of one group of a board.
        title: above the chart; none if empty.

    Returns:
        The chart; None where no row has a result.
    """
    found = [point for point in points(rows) if point["top1"] is not None and point["parameters"]]
    if not found:
        return None
    names, colours, forms = series(found)
    by_strategy = {"field": "strategy", "type": "nominal", "legend": {"title": "strategy"}}
    colour = by_strategy | {"scale": {"domain": names, "range": colours}}
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 24},
        "axis": {
            "title": "parameters of the student (log scale)",
            "format": "~s",
            "grid": False,
            "tickCount": 6,
            "labelOverlap": True,
        },
    }
    y = {
        "field": "top1",
        "type": "quantitative",
        "scale": {"zero": False, "padding": 8},
        "axis": {"title": "test top-1, %"},
    }
    points_layer = {
        "params": [{"name": "chosen", "select": {"type": "point", "fields": ["strategy"]}, "bind": "legend"}],
        "mark": {"type": "point", "filled": True, "size": 70, "strokeWidth": 1.6, "opacity": 1},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "stroke": colour,
            "shape": by_strategy | {"scale": {"domain": names, "range": forms}},
            "fillOpacity": fill(found),
            "opacity": _chosen(1.0),
            "tooltip": tooltip(
                "strategy", "variant", "settings", "student", ("size", "parameters"), ("top1", "test top-1, %"),
                ("interval", "95% interval"), ("n", "seeds"), "teacher", "dataset",
            ),
        },
    }  # fmt: skip
    intervals = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.4},
        "encoding": {
            "x": x,
            "y": y | {"field": "low"},
            "y2": {"field": "high"},
            "color": colour,
            "opacity": _chosen(0.7),
        },
    }
    frame = chart(title, found, height=400, subtitle=_WORDS)
    return frame | {"layer": [*_front(x, y), intervals, points_layer, *_teachers(y)]}


def _front(x: Chart, y: Chart) -> list[Chart]:
    """The Pareto front as a line through its rows, which get a ring. It is found within the chart."""
    upwards = [{"field": "parameters"}, {"field": "top1", "order": "descending"}]
    transform = [
        {"window": [{"op": "max", "field": "top1", "as": "best"}], "sort": upwards, "frame": [None, 0]},
        {"window": [{"op": "row_number", "as": "reached"}], "groupby": ["best"], "sort": upwards},
        {"filter": "datum.reached === 1"},
    ]
    line = {
        "mark": {"type": "line", "color": NEUTRAL, "strokeWidth": 2, "strokeDash": [6, 3]},
        "encoding": {"x": x, "y": y, "order": {"field": "parameters", "type": "quantitative"}},
    }
    ring = {
        "mark": {"type": "point", "size": 230, "color": NEUTRAL, "strokeWidth": 1.5, "filled": False},
        "encoding": {"x": x, "y": y},
    }
    return [{"name": "front", "transform": transform, "layer": [line, ring]}]


def _teachers(y: Chart) -> list[Chart]:
    """Each teacher: a line at its accuracy, with its name, and a star at its size."""
    once = [
        {"filter": "isValid(datum.teacher_top1)"},
        {
            "aggregate": [{"op": "count", "as": "rows"}],
            "groupby": ["teacher", "teacher_parameters", "teacher_top1"],
        },
        {"calculate": "'teacher ' + datum.teacher", "as": "name"},
    ]
    accuracy = y | {"field": "teacher_top1"}
    line = {"mark": {"type": "rule", "color": NEUTRAL, "strokeDash": [1, 4]}, "encoding": {"y": accuracy}}
    name = {
        "mark": {"type": "text", "align": "left", "dy": -7, "dx": 4, "color": NEUTRAL, "fontSize": 12, "limit": 420},
        "encoding": {"x": {"value": 0}, "y": accuracy, "text": {"field": "name"}},
    }
    star = {
        "transform": [{"filter": "isValid(datum.teacher_parameters)"}],
        "mark": {"type": "point", "shape": _STAR, "size": 90, "filled": True, "color": NEUTRAL, "opacity": 1},
        "encoding": {
            "x": {"field": "teacher_parameters", "type": "quantitative"},
            "y": accuracy,
            "tooltip": tooltip("teacher", ("teacher_parameters", "parameters"), ("teacher_top1", "test top-1, %")),
        },
    }
    return [{"transform": once, "layer": [line, name, star]}]


def _chosen(opacity: float) -> Chart:
    return {"condition": {"param": "chosen", "value": opacity}, "value": 0.12}
