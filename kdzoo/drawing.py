"""Vega-Lite charts as SVG and PNG, in one theme, each with the hash of what it was drawn from, and by whom."""

from __future__ import annotations

import hashlib
import importlib
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

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
_FONT = "Liberation Sans, Arial, Helvetica, DejaVu Sans, sans-serif"
"""vl-convert brings the first one, so that most machines draw alike."""

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
_KEYWORD = b"kdzoo spec"
_ORIGIN = re.compile(r"sha256 ([0-9a-f]{64}), drawn by ([\w., +-]{1,80})")
_SVG = re.compile(rb"\A<svg\b[^>]*><metadata>kdzoo spec ([^<]{1,200})</metadata>")
_PROBE = "".join(map(chr, range(33, 127))).translate({ord(each): None for each in "<&>"}) + "\u2192\u2265\u00b1"


class DrawingOrigin(NamedTuple):
    """What a drawing says of itself: the :func:`chart_digest` of its chart, and the :func:`drawer`."""

    digest: str
    drawer: str


def chart_digest(spec: Spec) -> str:
    """SHA-256 of the canonical JSON of a chart: 64 hex digits, whatever the theme, the fonts and the library's version.

    Raises:
        ValueError: the chart holds NaN or an infinity.
    """
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


@cache
def drawer() -> str:
    """Who draws here, in words: the version of vl-convert, and a hash of how it draws letters.

    Where both are equal, equal charts give equal bytes. The letters are those of the theme's fonts on this machine.
    """
    vl_convert: Any = importlib.import_module("vl_convert")  # its stubs lack the version

    text = f'<text x="2" y="20" font-size="14" font-family="{_FONT}">{_PROBE}</text>'
    probe = vl_convert.svg_to_png(f'<svg xmlns="http://www.w3.org/2000/svg" width="1400" height="30">{text}</svg>', 2)
    return f"vl-convert {vl_convert.__version__}, letters {hashlib.sha256(probe).hexdigest()[:12]}"


def svg(spec: Spec) -> bytes:
    """The chart as SVG, with its :class:`DrawingOrigin` in a ``metadata`` element. Texts stay texts."""
    drawn = _drawn(canonical_json(spec))
    start = drawn.index(">", drawn.index("<svg")) + 1
    return f"{drawn[:start]}<metadata>kdzoo spec {_origin(spec)}</metadata>{drawn[start:]}\n".encode()


def png(spec: Spec, scale: float = 2) -> bytes:
    """The chart as PNG, with its :class:`DrawingOrigin` in a ``tEXt`` chunk.

    Args:
        scale: pixels of the picture for one of the chart's.
    """
    import vl_convert

    drawn: bytes = vl_convert.svg_to_png(_drawn(canonical_json(spec)), scale)
    content = b"tEXt" + _KEYWORD + b"\0" + _origin(spec).encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    after_header = len(_SIGNATURE) + 25  # IHDR, which comes first, has 13 bytes and 12 of frame
    return drawn[:after_header] + chunk + drawn[after_header:]


def origin_of(content: bytes) -> DrawingOrigin | None:
    """What an SVG or PNG says of itself; None where it says nothing, or is cut or damaged."""
    if (found := _SVG.match(content)) is not None:
        return _read_origin(found[1])
    for kind, text in _chunks(content):
        keyword, _, value = text.partition(b"\0")
        if kind == b"tEXt" and keyword == _KEYWORD and (origin := _read_origin(value)):
            return origin
    return None


@lru_cache(maxsize=2)
def _drawn(spec: str) -> str:
    """A chart as SVG. Its PNG comes next, and needs the same."""
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(spec, config=THEME, allowed_base_urls=[])
    return drawn


def _origin(spec: Spec) -> str:
    return f"sha256 {chart_digest(spec)}, drawn by {drawer()}"


def _read_origin(text: bytes) -> DrawingOrigin | None:
    found = _ORIGIN.fullmatch(text.decode("ascii", "replace"))
    return DrawingOrigin(found[1], found[2]) if found else None


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
