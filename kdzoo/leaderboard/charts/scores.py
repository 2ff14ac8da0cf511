"""Charts of the main measure: of every row, and after each epoch.

Rows stand against the student's parameters with the Pareto front, or by row where there is one student. The front is
found within the chart, so that a page only has to replace the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdzoo.board.printed import RowValues, millions, score_text
from kdzoo.drawing import NEUTRAL
from kdzoo.leaderboard.charts.parts import Chart, Point, chart, fill, fill_words, points, series, tooltip
from kdzoo.measures import TOP1, Measure

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


def accuracy_chart(rows: Sequence[RowValues], title: str = "", main: Measure = TOP1) -> Chart | None:
    """The main measure on test of every row with its 95% interval, and that of the teachers.

    Against the student's parameters, with the Pareto front: a row is on it where no other has as few parameters and is
    more accurate, or fewer and as accurate. Where all rows have one student, each has a line of its own instead.

    Args:
        rows: of one group of a board.
        title: above the chart; none if empty.
        main: the measure that ranks them.

    Returns:
        The chart; None where no row has a result.
    """
    found = [point for point in points(rows, main) if point[main.name] is not None and point["parameters"]]
    if not found:
        return None
    if len({point["student"] for point in found}) == 1:
        return _by_row(found, main, title)
    return _by_size(found, main, title)


def headline(chart: Chart, main: Measure = TOP1) -> str:
    """What an accuracy chart is called."""
    what = "accuracy" if main == TOP1 else main.title
    return f"Test {what} of each row" if "lines" in chart.get("usermeta", {}) else f"Test {what} against parameters"


def _by_row(found: list[Point], main: Measure, title: str) -> Chart:
    x = _axis(main, channel_first=True)
    best_first = sorted(found, key=lambda point: (-main.sign * point[main.name], point["line"]))
    y = {
        "field": "line",
        "type": "nominal",
        "sort": [point["line"] for point in best_first],
        "axis": {"title": None, "grid": True, "tickBand": "extent"},
    }
    words = ["Bars: 95% t intervals over seeds", *fill_words(found), _teacher_words(found, main, ())]
    height = _STEP * len({point["line"] for point in found})
    frame = chart(title, found, height=height, subtitle=_sentence(words)) | {"usermeta": {"lines": _LINES}}
    return frame | {
        "layer": [
            _teacher_lines(main, {"x": x | {"field": main.on("teacher")}}),
            *_marks(found, main, {"y": y}, "x", x, legend=None),
        ]
    }


def _by_size(found: list[Point], main: Measure, title: str) -> Chart:
    sizes = sorted({point["parameters"] for point in found})
    limit = _FAR * sizes[-1]
    near = {point["teacher"] for point in found if (point["teacher_parameters"] or limit + 1) <= limit}
    ticks = {"values": sizes, "grid": True} if len(sizes) <= _MOST_TICKS else {"tickCount": 6, "grid": False}
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False, "padding": 24},
        "axis": {"title": "parameters of the student (log scale)", "format": ".3~s", "labelOverlap": "greedy"} | ticks,
    }
    y = _axis(main)
    selection = {"params": [{"name": "chosen", "select": {"type": "point", "fields": ["strategy"]}, "bind": "legend"}]}
    bars, marks = _marks(found, main, {"x": x}, "y", y, legend={"title": "strategy"})
    teachers = [_teacher_lines(main, {"y": y | {"field": main.on("teacher")}})]
    if near:
        teachers.append(_teacher_stars(main, y, limit))
    words = [
        "Bars: 95% t intervals over seeds; dashed line and rings: Pareto front",
        *fill_words(found),
        _teacher_words(found, main, near),
        "the strategies of one student stand side by side around its size",
    ]
    students: dict[str, str] = {}
    for point in sorted(found, key=lambda point: point["parameters"]):
        students.setdefault(point["student"], point["size"])  # a strategy may leave modules in it
    subtitle = _sentence(words)
    if len(students) <= _MOST_NAMES:
        subtitle += _sentence(["Students: " + ", ".join(f"{name} {size}" for name, size in students.items())])
    frame = chart(title, found, height=400, subtitle=subtitle)
    return frame | {"layer": [*_front(main, x, y), bars, selection | marks, {"layer": teachers}]}


def _axis(main: Measure, *, channel_first: bool = False) -> Chart:
    """The axis of the scores: not from 0, and never a tick beyond what there is."""
    return {
        "field": main.name,
        "type": "quantitative",
        "scale": {"zero": False, "nice": False, "padding": 10},
        "axis": {"title": _on_test(main), "grid": True} | ({"tickCount": 8} if channel_first else {}),
    }


def _on_test(main: Measure) -> str:
    return f"test {main.title}" + (f", {main.unit}" if main.unit else "")


def _marks(
    found: Sequence[Point], main: Measure, place: Chart, channel: str, score: Chart, *, legend: Chart | None
) -> list[Chart]:
    """The intervals and the means of all rows, along one channel."""
    names, colours, forms = series(found)
    by_strategy: dict[str, Any] = {"field": "strategy", "type": "nominal", "legend": legend}
    colour = by_strategy | {"scale": {"domain": names, "range": colours}}
    intervals = {
        "transform": [
            {"filter": "isValid(datum.low)"},
            # A score lies between its bounds, whatever Student's t says.
            {"calculate": "datum.low" if main.low is None else f"max({main.low:g}, datum.low)", "as": "bottom"},
            {"calculate": "datum.high" if main.high is None else f"min({main.high:g}, datum.high)", "as": "top"},
        ],
        "mark": {"type": "rule", "strokeWidth": 1.6},
        "encoding": place
        | {channel: score | {"field": "bottom"}, f"{channel}2": {"field": "top"}, "color": colour}
        | _chosen(0.7, legend),
    }
    means = {
        "mark": {"type": "point", "filled": True, "size": 70, "strokeWidth": 1.6, "opacity": 1},
        "encoding": place
        | {
            channel: score,
            "color": colour,
            "stroke": colour,
            "shape": by_strategy | {"scale": {"domain": names, "range": forms}},
            "fillOpacity": fill(found),
            "tooltip": tooltip(
                "strategy", "variant", "settings", "student", ("size", "parameters"), _field(main),
                ("interval", "95% interval"), ("n", "seeds"), "teacher", "dataset",
            ),
        }
        | _chosen(1.0, legend),
    }  # fmt: skip
    return [intervals, means]


def _front(main: Measure, x: Chart, y: Chart) -> list[Chart]:
    """The Pareto front as a line through its rows, each of which gets a ring. It is found within the chart."""
    best, order = ("max", "descending") if main.best == "highest" else ("min", "ascending")
    upwards = [{"field": "parameters"}, {"field": main.name, "order": order}]
    transform = [
        {"window": [{"op": best, "field": main.name, "as": "best"}], "sort": upwards, "frame": [None, 0]},
        {"joinaggregate": [{"op": "min", "field": "parameters", "as": "least"}], "groupby": ["best"]},
        {"filter": f"datum.{main.name} === datum.best && datum.parameters === datum.least"},
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


def _once(main: Measure) -> list[Chart]:
    """Each teacher in one point."""
    score = main.on("teacher")
    return [
        {"filter": f"isValid(datum.{score})"},
        {"aggregate": [{"op": "count", "as": "rows"}], "groupby": ["teacher", "teacher_parameters", score]},
    ]


def _teacher_lines(main: Measure, place: Chart) -> Chart:
    """A line at each teacher's score. Its name is in the words below the title, where it hides no mark."""
    return {
        "transform": _once(main),
        "mark": {"type": "rule", "color": NEUTRAL, "strokeWidth": 1.5, "strokeDash": [1, 4]},
        "encoding": place | {"tooltip": _teacher_tooltip(main)},
    }


def _teacher_stars(main: Measure, y: Chart, limit: float) -> Chart:
    """A star at the size of each teacher that does not squeeze the students into a corner."""
    return {
        "transform": [*_once(main), {"filter": f"datum.teacher_parameters <= {limit!r}"}],
        "mark": {"type": "point", "shape": _STAR, "size": 90, "filled": True, "color": NEUTRAL, "opacity": 1},
        "encoding": {
            "x": {"field": "teacher_parameters", "type": "quantitative"},
            "y": y | {"field": main.on("teacher")},
            "tooltip": _teacher_tooltip(main),
        },
    }


def _teacher_tooltip(main: Measure) -> list[Chart]:
    _, title, form = _field(main)
    return tooltip("teacher", ("teacher_parameters", "parameters", ","), (main.on("teacher"), title, form))


def _field(main: Measure) -> tuple[str, str, str]:
    """The score in a tooltip."""
    return main.name, _on_test(main), f".{main.digits}f"


def _teacher_words(found: Sequence[Point], main: Measure, near: Sequence[str] | set[str]) -> str:
    """Which teachers the dotted lines are; empty without one."""
    teachers = {
        point["teacher"]: f"{point['teacher']}, {millions(point['teacher_parameters'])} parameters, "
        f"{score_text(point[main.on('teacher')], main, space=' ')}"
        for point in found
        if point[main.on("teacher")] is not None
    }
    if not teachers:
        return ""
    start = "dotted line: teacher " if len(teachers) == 1 else "dotted lines: teachers "
    words = "; ".join(sorted(teachers.values())[:_MOST_NAMES]) + ("; …" if len(teachers) > _MOST_NAMES else "")
    return start + words + (", a star at its size" if near else "")


def _sentence(words: Sequence[str]) -> list[str]:
    return ["; ".join(filter(None, words)) + "."]


def _chosen(opacity: float, legend: Chart | None) -> Chart:
    """Fades what was not chosen in the legend, where there is one."""
    if legend is None:
        return {"opacity": {"value": opacity}}
    return {"opacity": {"condition": {"param": "chosen", "value": opacity}, "value": 0.12}}


def curves_chart(main: Measure) -> Chart:
    """The main measure on tune after each epoch that was measured, one line a curve.

    The page gives it the data of the row that is chosen: ``curve``, ``epoch``, ``score``.
    """
    whole = {"title": "epoch", "tickMinStep": 1, "format": "d", "grid": False}
    on_tune = f"{main.title} on tune" + (f", {main.unit}" if main.unit else "")
    encoding = {
        "x": {"field": "epoch", "type": "quantitative", "axis": whole, "scale": {"nice": False, "zero": False}},
        "y": {"field": "score", "type": "quantitative", "axis": {"title": on_tune}, "scale": {"zero": False}},
        "color": {"field": "curve", "type": "nominal", "legend": {"title": None}, "sort": None},
        "tooltip": tooltip("curve", "epoch", ("score", on_tune, f".{main.digits}f")),
    }
    mark = {"type": "line", "point": {"size": 28}, "strokeWidth": 1.6}
    return chart("", [], height=220, name="curves") | {"mark": mark, "encoding": encoding}
