"""Vega-Lite charts as SVG and PNG, in one theme, each with the hash of what it was drawn from."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from kdzoo.cell import canonical_json

Spec = Mapping[str, Any]
"""A Vega-Lite specification that holds its data. Its theme is not in it: it is added where the chart is drawn."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#A6761D")
"""Colours that people with a colour vision deficiency tell apart: six of Okabe and Ito (2008, jfly.uni-koeln.de/color)
and, in the place of their black and yellow, which vanish on a dark or a light page, a violet and a brown."""

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
"""With the colours, forms that tell apart as many series as there are pairs of both."""

NEUTRAL = "#7F7F7F"
"""For what is a reference: visible on a dark and on a light page."""

_INK, _FAINT = "#222222", "#DDDDDD"
_FONT = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif"

THEME: dict[str, Any] = {
    "background": "#FFFFFF",
    "font": _FONT,
    "padding": 8,
    "view": {"stroke": None},
    "title": {"anchor": "start", "fontSize": 14, "color": _INK, "subtitleColor": _INK, "limit": 700, "offset": 10},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": _INK,
        "titleColor": _INK,
        "gridColor": _FAINT,
        "domainColor": NEUTRAL,
        "tickColor": NEUTRAL,
        "labelLimit": 260,
    },
    "legend": {
        "orient": "bottom",
        "columns": 5,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelColor": _INK,
        "titleColor": _INK,
        "labelLimit": 200,
        "symbolLimit": 0,
        "symbolOpacity": 1,
    },
    "range": {"category": list(PALETTE)},
}
"""How every chart looks: Vega-Lite's ``config``."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"kdzoo spec sha256"
_SVG = re.compile(rb"\A<svg\b[^>]*><metadata>kdzoo spec sha256 ([0-9a-f]{64})</metadata>")


def digest(spec: Spec) -> str:
    """SHA-256 of the canonical JSON of a chart: 64 hex digits, whatever the theme, the fonts and the library's version.

    Raises:
        ValueError: the chart holds NaN or an infinity.
    """
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


def svg(spec: Spec) -> bytes:
    """The chart as SVG, with the chart's digest in a ``metadata`` element. Texts stay texts."""
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(dict(spec), config=THEME, allowed_base_urls=[])
    start = drawn.index(">", drawn.index("<svg")) + 1
    return f"{drawn[:start]}<metadata>kdzoo spec sha256 {digest(spec)}</metadata>{drawn[start:]}\n".encode()


def png(spec: Spec, scale: float = 2) -> bytes:
    """The chart as PNG, with the chart's digest in a ``tEXt`` chunk.

    Args:
        scale: pixels of the picture for one of the chart's.
    """
    import vl_convert

    drawn: bytes = vl_convert.vegalite_to_png(dict(spec), scale=scale, config=THEME, allowed_base_urls=[])
    content = b"tEXt" + _KEYWORD + b"\0" + digest(spec).encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    after_header = len(_SIGNATURE) + 25  # IHDR, which comes first, has 13 bytes and 12 of frame
    return drawn[:after_header] + chunk + drawn[after_header:]


def digest_of(content: bytes) -> str | None:
    """The digest of the chart that an SVG or PNG was drawn from; None where it says none, or is cut or damaged."""
    if (found := _SVG.match(content)) is not None:
        return found[1].decode()
    for kind, text in _chunks(content):
        keyword, _, value = text.partition(b"\0")
        if kind == b"tEXt" and keyword == _KEYWORD and re.fullmatch(rb"[0-9a-f]{64}", value):
            return value.decode()
    return None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of the chunks of a PNG, as far as they are whole."""
    if not content.startswith(_SIGNATURE):
        return
    place = len(_SIGNATURE)
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        end = place + 8 + size
        if end + 4 > len(content) or zlib.crc32(content[place + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            return
        yield content[place + 4 : place + 8], content[place + 8 : end]
        place = end + 4
