"""Plots that somebody else drew: whether they are those of these records, and do nothing but show."""

from __future__ import annotations

from xml.parsers import expat

from kdzoo.drawing import digest, drawer, origin_of, png, svg
from kdzoo.leaderboard.charts.all import Chart

_SHAPES = frozenset(
    {"svg", "g", "path", "rect", "line", "text", "tspan", "circle", "ellipse", "polygon", "polyline", "title", "desc",
     "defs", "clipPath", "linearGradient", "radialGradient", "stop", "metadata"}
)  # fmt: skip
_PAINTS = frozenset({"fill", "stroke", "clip-path", "mask", "filter", "marker-start", "marker-mid", "marker-end"})


class _ActiveError(Exception):
    """What a drawing would do."""


def drawing_fault(content: bytes, chart: Chart, suffix: str) -> str:
    """Why a file is not the drawing of a chart; empty where it is.

    It is compared by the digest that it says it was drawn from; whether it shows that, :func:`redrawn_fault` tells.

    Args:
        content: the file.
        chart: what it must have been drawn from.
        suffix: ``.svg`` or ``.png``.
    """
    if content.startswith(b"\x89PNG") != (suffix == ".png"):
        return f"is no {suffix[1:].upper()}"
    found = origin_of(content)
    if found is None:
        return "does not say what it was drawn from, so this kdzoo did not draw it, or it is damaged"
    if found.digest != digest(chart):
        return "was drawn from other records"
    return _active(content) if suffix == ".svg" else ""


def redrawn_fault(content: bytes, chart: Chart, suffix: str) -> str:
    """Why a file is not the drawing of a chart, to the byte, if it says that it was drawn as they are drawn here."""
    if foreign_drawer(content):
        return ""
    return "" if content == (svg if suffix == ".svg" else png)(chart) else "shows something else than these records"


def foreign_drawer(content: bytes) -> str:
    """Who drew it, if drawings are drawn otherwise here; else nothing."""
    found = origin_of(content)
    return "" if found is None or found.drawer == drawer() else found.drawer


def _active(content: bytes) -> str:
    """What an SVG would do beside showing shapes and words: run scripts, load or link something."""

    def start(name: str, attributes: dict[str, str]) -> None:
        if name not in _SHAPES:
            raise _ActiveError(f"the element {name}")
        for key, value in attributes.items():
            acts = key.lower().startswith("on") or key.lower().endswith(("href", "style"))
            loads = key in _PAINTS and "url(" in value.lower() and not value.lower().startswith("url(#")
            if acts or loads:
                raise _ActiveError(f"the attribute {key} of {name}")

    def refuse(*_: object) -> None:
        raise _ActiveError("a declaration or an instruction")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    try:
        parser.Parse(content, True)
    except _ActiveError as error:
        return f"holds {error}, and a plot does nothing but show"
    except expat.ExpatError as error:
        return f"is no XML ({error})"
    return ""
