"""Accuracy of every row: against the student's parameters with the Pareto front, or by row where there is one student.

The front is found within the chart, so that a page only has to replace the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdzoo.board.display import millions, number
from kdzoo.drawing import NEUTRAL
from kdzoo.leaderboard.charts.parts import Chart, chart, fill, fill_words, tooltip
from kdzoo.leaderboard.charts.points import Point, Row, points, series

_STAR = "M0,-1L0.24,-0.32L0.95,-0.31L0.38,0.12L0.59,0.81L0,0.4L-0.59,0.81L-0.38,0.12L-0.95,-0.31L-0.24,-0.32Z"
_FAR = 2.0
"""How many times as large as the largest student a teacher may be to have a place on the axis."""
_MOST_TICKS = 8
"""Students whose own sizes are the ticks of the axis."""
_MOST_NAMES = 6
"""Teachers, and students, that the words below the title name."""
_STEP = 26
_LINES = {"line": "line", "within": "pair", "step": _STEP, "least": _STEP}
"""What the height follows where each row has a line of its own. A page reads it too."""


def accuracy_chart(rows: Sequence[Row], title: str = "") -> Chart | None:
    """Test top-1 of every row with its 95% interval, and that of the teachers.

    Against the student's parameters, with the Pareto front: a row is on it where no other has as few parameters and is
    more accurate, or fewer and as accurate. Where all rows have one student, each has a line of its own instead.

    Args:
        rows: of one group of a board.
        title: above the chart; none if empty.

    Returns:
        The chart; None where no row has a result.
    """
    found = [point for point in points(rows) if point["top1"] is not None and point["parameters"]]
    if not found:
        return None
    if len({point["student"] for point in found}) == 1:
        return _by_row(found, title)
    return _by_size(found, title)


def headline(chart: Chart) -> str:
    """What an accuracy chart is called."""
    return "Test accuracy of each row" if "lines" in chart.get("usermeta", {}) else "Test accuracy against parameters"


def _by_row(found: list[Point], title: str) -> Chart:
    x = _top1(channel_first=True)
    y = {
        "field": "line",
        "type": "nominal",
        "sort": [point["line"] for point in sorted(found, key=lambda point: (-point["top1"], point["line"]))],
        "axis": {"title": None, "grid": True, "tickBand": "extent"},
    }
    words = ["Bars: 95% t intervals over seeds", *fill_words(found), _teacher_words(found, ())]
    height = _STEP * len({point["line"] for point in found})
    frame = chart(title, found, height=height, subtitle=_sentence(words)) | {"usermeta": {"lines": _LINES}}
    return frame | {
        "layer": [
            _teacher_lines({"x": x | {"field": "teacher_top1"}}),
            *_marks(found, {"y": y}, "x", x, legend=None),
        ]
    }


def _by_size(found: list[Point], title: str) -> Chart:
    sizes = sorted({point["parameters"] for point in found})
    limit = _FAR * sizes[-1]
    near = {point["teacher"] for point in found if (point["teacher_parameters"] or limit + 1) <= limit}
    ticks = {"values": sizes, "grid": True} if len(sizes) <= _MOST_TICKS else {"tickCount": 6, "grid": False}
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 24},
        "axis": {"title": "parameters of the student (log scale)", "format": ".3~s", "labelOverlap": True} | ticks,
    }
    y = _top1()
    selection = {"params": [{"name": "chosen", "select": {"type": "point", "fields": ["strategy"]}, "bind": "legend"}]}
    bars, marks = _marks(found, {"x": x}, "y", y, legend={"title": "strategy"})
    teachers = [_teacher_lines({"y": y | {"field": "teacher_top1"}})]
    if near:
        teachers.append(_teacher_stars(y, limit))
    words = [
        "Bars: 95% t intervals over seeds; dashed line and rings: Pareto front",
        *fill_words(found),
        _teacher_words(found, near),
        "the strategies of one student stand side by side around its size",
    ]
    students = {point["student"]: point["size"] for point in sorted(found, key=lambda point: point["parameters"])}
    subtitle = _sentence(words)
    if len(students) <= _MOST_NAMES:
        subtitle += _sentence(["Students: " + ", ".join(f"{name} {size}" for name, size in students.items())])
    frame = chart(title, found, height=400, subtitle=subtitle)
    return frame | {"layer": [*_front(x, y), bars, selection | marks, {"layer": teachers}]}


def _top1(*, channel_first: bool = False) -> Chart:
    """The axis of accuracy: not from 0, and never a tick above 100."""
    return {
        "field": "top1",
        "type": "quantitative",
        "scale": {"zero": False, "nice": False, "padding": 10},
        "axis": {"title": "test top-1, %", "grid": True} | ({"tickCount": 8} if channel_first else {}),
    }


def _marks(found: Sequence[Point], place: Chart, channel: str, top1: Chart, *, legend: Chart | None) -> list[Chart]:
    """The intervals and the means of all rows, along one channel."""
    names, colours, forms = series(found)
    by_strategy: dict[str, Any] = {"field": "strategy", "type": "nominal", "legend": legend}
    colour = by_strategy | {"scale": {"domain": names, "range": colours}}
    intervals = {
        "transform": [
            {"filter": "isValid(datum.low)"},
            # An accuracy lies between these, whatever Student's t says.
            {"calculate": "max(0, datum.low)", "as": "bottom"},
            {"calculate": "min(100, datum.high)", "as": "top"},
        ],
        "mark": {"type": "rule", "strokeWidth": 1.6},
        "encoding": place
        | {channel: top1 | {"field": "bottom"}, f"{channel}2": {"field": "top"}, "color": colour}
        | _chosen(0.7, legend),
    }
    means = {
        "mark": {"type": "point", "filled": True, "size": 70, "strokeWidth": 1.6, "opacity": 1},
        "encoding": place
        | {
            channel: top1,
            "color": colour,
            "stroke": colour,
            "shape": by_strategy | {"scale": {"domain": names, "range": forms}},
            "fillOpacity": fill(found),
            "tooltip": tooltip(
                "strategy", "variant", "settings", "student", ("size", "parameters"), ("top1", "test top-1, %"),
                ("interval", "95% interval"), ("n", "seeds"), "teacher", "dataset",
            ),
        }
        | _chosen(1.0, legend),
    }  # fmt: skip
    return [intervals, means]


def _front(x: Chart, y: Chart) -> list[Chart]:
    """The Pareto front as a line through its rows, each of which gets a ring. It is found within the chart."""
    upwards = [{"field": "parameters"}, {"field": "top1", "order": "descending"}]
    transform = [
        {"window": [{"op": "max", "field": "top1", "as": "best"}], "sort": upwards, "frame": [None, 0]},
        {"joinaggregate": [{"op": "min", "field": "parameters", "as": "least"}], "groupby": ["best"]},
        {"filter": "datum.top1 === datum.best && datum.parameters === datum.least"},
    ]
    line = {
        "mark": {"type": "line", "color": NEUTRAL, "strokeWidth": 2, "strokeDash": [6, 3]},
        "encoding": {"x": x, "y": y, "order": {"field": "x", "type": "quantitative"}},
    }
    ring = {
        "mark": {"type": "point", "size": 230, "color": NEUTRAL, "strokeWidth": 1.5, "filled": False},
        "encoding": {"x": x, "y": y},
    }
    return [{"name": "front", "transform": transform, "layer": [line, ring]}]


_ONCE: list[Chart] = [
    {"filter": "isValid(datum.teacher_top1)"},
    {"aggregate": [{"op": "count", "as": "rows"}], "groupby": ["teacher", "teacher_parameters", "teacher_top1"]},
]


def _teacher_lines(place: Chart) -> Chart:
    """A line at each teacher's accuracy. Its name is in the words below the title, where it hides no mark."""
    return {
        "transform": _ONCE,
        "mark": {"type": "rule", "color": NEUTRAL, "strokeWidth": 1.5, "strokeDash": [1, 4]},
        "encoding": place | {"tooltip": _teacher_tooltip()},
    }


def _teacher_stars(y: Chart, limit: float) -> Chart:
    """A star at the size of each teacher that does not squeeze the students into a corner."""
    return {
        "transform": [*_ONCE, {"filter": f"datum.teacher_parameters <= {limit!r}"}],
        "mark": {"type": "point", "shape": _STAR, "size": 90, "filled": True, "color": NEUTRAL, "opacity": 1},
        "encoding": {
            "x": {"field": "teacher_parameters", "type": "quantitative"},
            "y": y | {"field": "teacher_top1"},
            "tooltip": _teacher_tooltip(),
        },
    }


def _teacher_tooltip() -> list[Chart]:
    return tooltip("teacher", ("teacher_parameters", "parameters"), ("teacher_top1", "test top-1, %"))


def _teacher_words(found: Sequence[Point], near: Sequence[str] | set[str]) -> str:
    """Which teachers the dotted lines are; empty without one."""
    teachers = {
        point["teacher"]: f"{point['teacher']}, {millions(point['teacher_parameters'])} parameters, "
        f"{number(point['teacher_top1'])} %"
        for point in found
        if point["teacher_top1"] is not None
    }
    if not teachers:
        return ""
    start = "dotted line: teacher " if len(teachers) == 1 else "dotted lines: teachers "
    told = "; ".join(sorted(teachers.values())[:_MOST_NAMES]) + ("; …" if len(teachers) > _MOST_NAMES else "")
    return start + told + (", a star at its size" if near else "")


def _sentence(words: Sequence[str]) -> list[str]:
    return ["; ".join(filter(None, words)) + "."]


def _chosen(opacity: float, legend: Chart | None) -> Chart:
    """Fades what was not chosen in the legend, where there is one."""
    if legend is None:
        return {"opacity": {"value": opacity}}
    return {"opacity": {"condition": {"param": "chosen", "value": opacity}, "value": 0.12}}
