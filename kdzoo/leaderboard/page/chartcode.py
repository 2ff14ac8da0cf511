"""The JavaScript that draws the charts, inlined once: Vega, Vega-Lite and Vega-Embed, as vl-convert bundles them."""

from __future__ import annotations

import base64
import hashlib
import importlib
import re
from functools import cache
from typing import Any, NamedTuple

START, END = "<!-- library: start -->", "<!-- library: end -->"
_BLOCK = re.compile(
    re.escape(START) + r'\n<script id="library" data-version="([\w ., -]+)">(.*?)</script>\n' + re.escape(END),
    re.DOTALL,
)
_EMPTY = f"{START}\n{END}"


class Library(NamedTuple):
    """The bundle and what it is made of, in words."""

    version: str
    code: str


@cache
def load_library() -> Library:
    """The bundle of this installation. It takes a second or two, once.

    Raises:
        RuntimeError: the bundle cannot stand within a page.
    """
    vl_convert: Any = importlib.import_module("vl_convert")  # its stubs lack what is used here
    code: str = vl_convert.javascript_bundle().replace("\r\n", "\n")
    lower = code.lower()
    if "</script" in lower or "<!--" in lower or "\r" in lower:
        raise RuntimeError(f"the JavaScript of vl-convert {vl_convert.__version__} cannot be inlined in a page")
    versions = (
        f"vega {vl_convert.get_vega_version()}, vega-lite {vl_convert.get_vegalite_versions()[-1]}, "
        f"vega-embed {vl_convert.get_vega_embed_version()}, vl-convert {vl_convert.__version__}"
    )
    return Library(versions, code)


def own_library() -> tuple[str, str]:
    """Version and SHA-256, as 64 hex digits, of what this installation inlines."""
    library = load_library()
    return library.version, _digest(library.code).hex()


def block(library: Library | None) -> str:
    """The part of a page that holds the library, or that would."""
    if library is None:
        return _EMPTY
    return f'{START}\n<script id="library" data-version="{library.version}">{library.code}</script>\n{END}'


def library_of(html: str) -> tuple[str, str] | None:
    """Version and SHA-256 of the library in a page, or None where the page has none, or more than one.

    The hash covers all that stands between the markers but the version, so nothing can be hidden there.
    """
    found = _BLOCK.search(html)
    if found is None or html.count(START) != 1 or html.count(END) != 1:
        return None
    return found[1], _digest(found[2]).hex()


def without_library(html: str) -> str:
    """The page without its library and the leave to run it: the same for every version of the library.

    A page without a library, or with more than one, is given back as it is.
    """
    library = library_of(html)
    if library is None:
        return html
    html = _BLOCK.sub(_EMPTY, html)
    return html.replace(f" {_source(bytes.fromhex(library[1]))}", "", 1)


def script_source(code: str) -> str:
    """The leave to run one script, as a source of a Content-Security-Policy."""
    return _source(_digest(code))


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _source(digest: bytes) -> str:
    return f"'sha256-{base64.b64encode(digest).decode()}'"
