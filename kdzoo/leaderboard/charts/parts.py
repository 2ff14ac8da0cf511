"""What the charts share: their frame, tooltips and marks. A chart is a Vega-Lite specification as a plain dict."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from kdzoo.drawing import NEUTRAL
from kdzoo.leaderboard.charts.points import text

Chart = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_WIDTH = 680
_LETTERS = 84
"""Of a title; of the smaller words below it, a third more fit."""
_FORMATS = {"top1": ".2f", "teacher_top1": ".2f", "rank": ".2f", "diff": "+.2f", "teacher_parameters": ","}


def chart(
    title: str, data: Sequence[Mapping[str, Any]], *, height: int, name: str = "rows", subtitle: str | list[str] = ""
) -> Chart:
    """The frame of a chart, to which marks are added.

    Args:
        title: above it; none if empty.
        data: its data set.
        height: pixels, without axes and legends.
        name: of the data set, by which a page replaces it.
        subtitle: in words, below the title; several lines as a list. Long lines are broken.
    """
    frame: Chart = {"$schema": _SCHEMA, "width": _WIDTH, "height": height, "data": {"name": name, "values": list(data)}}
    frame["autosize"] = {"type": "fit-x", "contains": "padding"}
    if title or subtitle:
        lines = [subtitle] if isinstance(subtitle, str) else subtitle
        words = [part for line in lines for part in textwrap.wrap(line, _LETTERS * 4 // 3)]
        frame["title"] = {"text": textwrap.wrap(text(title), _LETTERS) or ""} | ({"subtitle": words} if words else {})
    return frame


def tooltip(*fields: str | tuple[str, str]) -> list[Chart]:
    """Fields by their names, or with a title of their own."""
    shown = []
    for field in fields:
        name, title = (field, field) if isinstance(field, str) else field
        kind = {"type": "quantitative", "format": _FORMATS[name]} if name in _FORMATS else {"type": "nominal"}
        shown.append({"field": name, "title": title} | kind)
    return shown


def fill(found: Sequence[Mapping[str, Any]]) -> Chart:
    """How marks are filled: hollow for the default where there are tuned rows too."""
    if not any(point["searched"] for point in found):
        return {"value": 1}
    return {
        "field": "searched",
        "type": "ordinal",
        "scale": {"domain": ["default", "tuned"], "range": [0.1, 1]},
        "legend": {"title": "variant", "symbolFillColor": NEUTRAL, "symbolStrokeColor": NEUTRAL},
    }


def fill_words(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What :func:`fill` means, in words; nothing where all marks are full."""
    if not any(point["searched"] for point in found):
        return []
    return ["hollow: default values; full: tuned ones, or a default that won its search"]
