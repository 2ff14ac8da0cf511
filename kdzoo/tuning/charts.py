"""Studies of tuning as Vega-Lite charts: their history, a slice through each parameter, and what mattered."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from kdzoo.board.labels import value_text
from kdzoo.drawing import NEUTRAL, PALETTE, png, svg
from kdzoo.errors import UsageError, os_reason
from kdzoo.files import atomic_write
from kdzoo.foreign import printable
from kdzoo.measures import Measure
from kdzoo.refs import Scalar
from kdzoo.space import Range
from kdzoo.study import Study
from kdzoo.tuning.optuna_study import Importance, importance
from kdzoo.tuning.report import progress_text, space_text, titled

ImageFormat = Literal["svg", "png"]
_Spec = dict[str, Any]

_UNSAFE = re.compile(r"[^a-z0-9._]+")
_LONGEST = 40
"""Characters of each name in a file's name."""

_WIDTH, _HEIGHT = 560, 300
_PANEL, _COLUMNS = 250, 3
_TICKS = 20
_POINTS = 1.0
"""Room above and below percentages, in points; of other scores, a share of them makes room."""

_BLUE, _RED, _GREEN, _ORANGE = PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[4]
_MARKS = {
    "done": ("circle", _BLUE),
    "default": ("diamond", _ORANGE),
    "pruned": ("cross", NEUTRAL),
    "failed": ("triangle-down", _RED),
}
"""What a trial looks like: shape and colour."""

_DONE = ("done", "default")


def study_charts(study: Study, title: str) -> dict[str, _Spec]:
    """The charts of a study, by kind: ``history``, ``slice``, ``importance``.

    One that would be empty is left out: the history before a trial has a value, the slice before one is done, the
    importance where there is none.

    Args:
        study: as far as it is.
        title: dataset, pair and strategy, safe to print.
    """
    charts: dict[str, _Spec] = {}
    points = _points(study)
    if any(point["score"] is not None for point in points):
        charts["history"] = _history(study, title, points)
    if any(point["state"] in _DONE for point in points):
        charts["slice"] = _slice(study, title, points)
    found = importance(study)
    if found.shares:
        charts["importance"] = _importance(study, title, found)
    return charts


def write_plots(studies: Iterable[Study], folder: Path, kinds: Sequence[ImageFormat] = ("svg", "png")) -> list[Path]:
    """Write the charts of studies as ``DATASET-TEACHER-STUDENT-STRATEGY-ID-history.svg`` and so on.

    Args:
        studies: as far as they are.
        folder: where to; made if it is not there.
        kinds: the forms of each chart.

    Returns:
        The files, in the order of the studies' titles.

    Raises:
        UsageError: the folder cannot be written.
    """
    draw = {"svg": svg, "png": png}
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for title, study in titled(studies):
            for name, spec in study_charts(study, title).items():
                for kind in kinds:
                    path = folder / f"{_file_name(study)}-{name}.{kind}"
                    atomic_write(path, draw[kind](spec))
                    written.append(path)
    except OSError as error:
        raise UsageError(f"plots cannot be written to {folder}: {os_reason(error)}; give another folder") from None
    return written


def _file_name(study: Study) -> str:
    """What a study is of, in letters that every file system takes, and its id."""
    plan = study.plan
    words = (plan.data.name, str(plan.teacher.model), str(plan.student), plan.strategy.name)
    safe = (_UNSAFE.sub("-", word.lower())[:_LONGEST].strip("-.") or "unnamed" for word in words)
    return "-".join([*safe, study.id])


def _points(study: Study) -> list[dict[str, Any]]:
    """One point a trial that has ended: its number, what became of it, and its last score on tune if it has one."""
    return [
        {
            "trial": number,
            "state": "default" if number == 0 and trial.state == "done" else trial.state,
            "score": trial.last_score,
            "values": dict(trial.values),
        }
        for number, trial in enumerate(study.trials)
        if trial.state != "asked"
    ]


def _head(study: Study, title: str, what: str, *more: str) -> _Spec:
    lines = [f"{what} of the trials, {progress_text(study)}; {space_text(study)}", *more]
    return {"title": {"text": title, "subtitle": lines}}


def _history(study: Study, title: str, points: list[dict[str, Any]]) -> _Spec:
    """The score by trial, and the best so far as a line. A trial without a value stands on the axis."""
    low, high = _extent(points, study.main)
    shown_points = [{**point, "score": low if point["score"] is None else point["score"]} for point in points]
    best: list[dict[str, Any]] = []
    for point in points:
        score = point["score"] if point["state"] in _DONE else None
        known = [value for value in (score, best[-1]["best"] if best else None) if value is not None]
        if known:
            best.append({"trial": point["trial"], "best": max(known, key=lambda value: study.main.sign * value)})
    last = points[-1]["trial"]
    x = {
        "field": "trial",
        "type": "quantitative",
        "title": "trial",
        "scale": _fixed(-0.5, last + 0.5),
        "axis": {"values": list(range(0, last + 1, 1 + last // _TICKS)), "format": "d", "grid": False},
    }
    y = {"type": "quantitative", "title": _axis_title(study.main), "scale": _fixed(low, high)}
    notes = ["the line is the best so far"]
    if any(point["state"] == "pruned" for point in points):
        notes.append("a pruned trial is shown where it stopped")
    if any(point["score"] is None for point in points):
        notes.append("a trial without a value is on the axis")
    return {
        **_head(study, title, "history", "; ".join(notes)),
        "width": _WIDTH,
        "height": _HEIGHT,
        "layer": [
            {
                "data": {"values": best},
                "mark": {"type": "line", "interpolate": "step-after", "color": _GREEN, "strokeWidth": 2},
                "encoding": {"x": x, "y": {**y, "field": "best"}},
            },
            {
                "data": {
                    "values": [{key: point[key] for key in ("trial", "state", "score")} for point in shown_points]
                },
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.9, "clip": False},
                "encoding": {"x": x, "y": {**y, "field": "score"}, **_states(points)},
            },
        ],
    }


def _slice(study: Study, title: str, points: list[dict[str, Any]]) -> _Spec:
    """The score of the done trials against the value of each parameter, the other ones as they happened to be."""
    done = [point for point in points if point["state"] in _DONE]
    panels, notes = [], []
    for name, tried in sorted(study.plan.space.items()):
        drawn = [
            {**point, "value": point["values"][name]} for point in done if _has_place(point["values"][name], tried)
        ]
        notes += [
            f"trial {point['trial']}, {printable(name)}={printable(value_text(point['values'][name]))}, is off the axis"
            for point in done
            if not _has_place(point["values"][name], tried)
        ]
        panels.append(_panel(name, tried, drawn, study.main, _extent(done, study.main), _states(done)))
    if len(done) < len(points):
        notes.append("pruned and failed trials are left out")
    return {**_head(study, title, "slices", *notes), "concat": panels, "columns": _COLUMNS}


def _panel(
    name: str,
    tried: Range,
    drawn: list[dict[str, Any]],
    main: Measure,
    extent: tuple[float, float],
    states: _Spec,
) -> _Spec:
    rows = [{key: point[key] for key in ("trial", "state", "score", "value")} for point in drawn]
    return {
        "width": _PANEL,
        "height": _HEIGHT * 2 // 3,
        "data": {"values": rows},
        # Vega-Lite would write the axis' title, a name from a study, into an expression that describes each point.
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 0.8, "aria": False},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": printable(name), **_scale(tried, rows)},
            "y": {"field": "score", "type": "quantitative", "title": _axis_title(main), "scale": _fixed(*extent)},
            **states,
        },
    }


def _has_place(value: Scalar, tried: Range) -> bool:
    return isinstance(value, (int, float)) and (value > 0 or not tried.log)


def _fixed(low: float, high: float) -> _Spec:
    return {"domain": [low, high], "zero": False, "nice": False}


def _importance(study: Study, title: str, found: Importance) -> _Spec:
    rows = [{"parameter": printable(name), "share": share} for name, share in found.shares.items()]
    note = f"fANOVA from {found.trials} done trials" + (": rough, only a hint from so few" if found.rough else "")
    y = {"field": "parameter", "type": "nominal", "title": None, "sort": None}
    x = {"field": "share", "type": "quantitative", "title": "importance", "scale": {"domain": [0, 1]}}
    return {
        **_head(study, title, "importance", note),
        "width": _WIDTH,
        "height": {"step": 34},
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "bar", "color": _BLUE, "height": {"band": 0.7}}, "encoding": {"x": x, "y": y}},
            {
                "mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 12},
                "encoding": {"x": x, "y": y, "text": {"field": "share", "format": ".2f"}},
            },
        ],
    }


def _axis_title(main: Measure) -> str:
    return f"{main.title} on tune" + (f", {main.unit}" if main.unit else "")


def _extent(points: list[dict[str, Any]], main: Measure) -> tuple[float, float]:
    """The axis of the score: all values with some room, within what there is."""
    values = [point["score"] for point in points if point["score"] is not None]
    least = _POINTS if main.unit == "%" else 0.01 * max(map(abs, values)) or 1.0
    room = max(least, 0.08 * (max(values) - min(values)))
    low = -math.inf if main.low is None else main.low
    high = math.inf if main.high is None else main.high
    return max(low, min(values) - room), min(high, max(values) + room)


def _scale(tried: Range, rows: list[dict[str, Any]]) -> _Spec:
    """The axis of a parameter: what was searched, and the default if it lies outside."""
    values = [row["value"] for row in rows]
    scale = _fixed(min([tried.low, *values]), max([tried.high, *values]))
    if tried.log:
        scale["type"] = "log"
    return {"scale": scale, "axis": {"tickMinStep": 1, "format": "d"} if tried.whole else {"tickCount": 5}}


def _states(points: list[dict[str, Any]]) -> _Spec:
    """Shape and colour by what became of a trial, with a legend of what occurs."""
    states = [state for state in _MARKS if any(point["state"] == state for point in points)]
    shapes, colours = zip(*(_MARKS[state] for state in states), strict=True)
    field = {"field": "state", "type": "nominal", "title": None}
    return {
        "shape": {**field, "scale": {"domain": states, "range": list(shapes)}},
        "color": {**field, "scale": {"domain": states, "range": list(colours)}},
        "tooltip": [{"field": name} for name in ("trial", "state", "score")],
    }
