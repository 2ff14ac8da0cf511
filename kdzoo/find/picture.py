"""A race as a picture: a compact table for the terminal, and a chart of every setting's curve on tune."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from kdzoo.board.printed import NONE, number
from kdzoo.drawing import NEUTRAL, PALETTE, THEME, svg
from kdzoo.errors import UsageError, os_reason, strategies_text
from kdzoo.files import atomic_write
from kdzoo.find.finding import RaceFinding, setting_text
from kdzoo.find.race import Runner
from kdzoo.foreign import bounded, printable

_Spec = dict[str, Any]
_REASON = 60
"""Characters of a reason in the table."""

_WIDTH, _HEIGHT = 640, 360
_OUT, _FINAL, _ALONE = "out", "finalist", "ce"


def race_table(finding: RaceFinding) -> str:
    """One line a strategy: its best score on tune at the end of each rung, and where it went out. The best first."""
    raced = finding.raced
    by_label: dict[str, list[Runner]] = {}
    for one in raced.runners:
        by_label.setdefault(one.label, []).append(one)
    main = finding.main
    lines = [_line(finding, label, runners) for label, runners in by_label.items()]
    lines.sort(key=lambda line: line[0])
    ends = [f"epoch {end}" for end in raced.race.ends]
    headers = ["strategy", "settings", *ends, "how far it got"]
    grid = [headers, *(texts for _, texts in lines)]
    aligns = ["left", "right", *("right" for _ in ends), "left"]
    text = tabulate(grid, tablefmt="plain", colalign=aligns, disable_numparse=True)
    shown = "\n".join(line.rstrip() for line in text.splitlines())
    return f"{main.heading} on tune, of each strategy's best setting, at the end of each rung\n{shown}\n"


def _line(finding: RaceFinding, label: str, runners: Sequence[Runner]) -> tuple[tuple[int, float], list[str]]:
    """What sorts the line of a strategy, and its cells."""
    sign = finding.main.sign
    scores: list[float | None] = []
    for rung in range(len(finding.raced.race.ends)):
        reached = [one.records[rung].curve for one in runners if _ended(one, rung)]
        known = [curve[-1].score for curve in reached if curve[-1].score is not None]
        scores.append(max(known, key=lambda score: sign * score) if known else None)
    reached_rungs = [score for score in scores if score is not None]
    order = (-len(reached_rungs), -sign * reached_rungs[-1] if reached_rungs else 0.0)
    cells = [printable(label), str(len(runners)), *(number(score, finding.main.digits) for score in scores)]
    return order, [*cells, _fate(finding, runners, len(reached_rungs))]


def _ended(one: Runner, rung: int) -> bool:
    return rung < len(one.records) and one.records[rung].status == "done" and bool(one.records[rung].curve)


def _fate(finding: RaceFinding, runners: Sequence[Runner], rungs: int) -> str:
    race = finding.raced.race
    if runners[0].alone:
        return "the student alone"
    if any(one is finding.recommended for one in runners):
        return "recommended"
    if any(one is line.runner for line in finding.finalists for one in runners):
        return _FINAL
    if rungs == 0:
        reason = runners[0].records[-1].reason
        return bounded(f"{runners[0].records[-1].status}: {reason}" if reason else NONE, _REASON)
    return f"out after rung {rungs} of {len(race.ends)}"


def race_chart(finding: RaceFinding) -> _Spec:
    """Every setting's curve on tune as a Vega-Lite chart; a cross stands where one went out."""
    raced, main = finding.raced, finding.main
    finals = {line.runner.number for line in finding.finalists}
    points: list[_Spec] = []
    for one in raced.runners:
        kind = _ALONE if one.alone else _FINAL if one.number in finals else _OUT
        for record in one.records[-1:]:
            for line in record.curve:
                if line.score is not None:
                    points.append(
                        {
                            "setting": printable(f"{one.number}: {setting_text(one)}"),
                            "strategy": printable(one.label),
                            "kind": kind,
                            "epoch": line.epoch + 1,
                            "score": line.score,
                        }
                    )
    last: dict[str, _Spec] = {point["setting"]: point for point in points}
    out = [point for point in last.values() if point["kind"] == _OUT]
    shown = [point for point in last.values() if point["kind"] != _OUT]
    name = f"{main.title} on tune" + (f", {main.unit}" if main.unit else "")
    low, high = min(point["score"] for point in points), max(point["score"] for point in points)
    x = {"field": "epoch", "type": "quantitative", "title": "epoch", "axis": {"tickMinStep": 1, "format": "d"}}
    room = 0.03 * (high - low) or 1.0
    y = {
        "field": "score",
        "type": "quantitative",
        "title": name,
        "scale": {"domain": [low - room, high + room], "zero": False, "nice": False},
    }
    colour = {
        "field": "kind",
        "type": "nominal",
        "title": None,
        "scale": {"domain": [_FINAL, _ALONE, _OUT], "range": [PALETTE[0], PALETTE[1], NEUTRAL]},
    }
    tooltip = [{"field": each} for each in ("setting", "epoch", "score")]
    cell = next(iter(raced.race.cells.values()))
    teacher = f"{cell.teacher.model} -> " if cell.teacher else ""
    seen = raced.seen
    return {
        "title": {
            "text": printable(f"{cell.data.name}: {teacher}{cell.student}"),
            "subtitle": [f"race of {strategies_text(seen.strategies)} with {seen.trials} settings; x: went out there"],
        },
        "width": _WIDTH,
        "height": _HEIGHT,
        "layer": [
            {
                # Vega-Lite would write the axis' title into an expression that describes each mark.
                "data": {"values": points},
                "mark": {"type": "line", "aria": False, "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y, "color": colour, "detail": {"field": "setting"}, "tooltip": tooltip}
                | {"opacity": {"condition": {"test": f"datum.kind === '{_OUT}'", "value": 0.45}, "value": 1}},
            },
            {
                "data": {"values": out},
                "mark": {"type": "point", "shape": "cross", "angle": 45, "filled": True, "size": 60, "aria": False},
                "encoding": {"x": x, "y": y, "color": colour, "tooltip": tooltip},
            },
            {
                "data": {"values": shown},
                "mark": {"type": "text", "align": "left", "dx": 5, "aria": False},
                "encoding": {"x": x, "y": y, "color": colour, "text": {"field": "strategy"}},
            },
        ],
    }


def write_picture(finding: RaceFinding, folder: Path) -> list[Path]:
    """Write the chart as ``race-NAME.svg``, and as ``race-NAME.html``, which works offline and names each line.

    Args:
        finding: of the race.
        folder: where to; made if it is not there.

    Returns:
        The files.

    Raises:
        UsageError: the folder cannot be written.
    """
    vl_convert: Any = importlib.import_module("vl_convert")  # its stubs lack what is used here
    spec = race_chart(finding)
    name = f"race-{finding.raced.race.name}"
    contents = {
        folder / f"{name}.svg": svg(spec),
        folder / f"{name}.html": vl_convert.vegalite_to_html(spec, bundle=True, config=THEME).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            atomic_write(path, content)
    except OSError as error:
        raise UsageError(f"plots cannot be written to {folder}: {os_reason(error)}; give another folder") from None
    return list(contents)
