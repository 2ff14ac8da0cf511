"""Names come from other people's records: what makes them safe, and visible, in each format."""

from __future__ import annotations

import re
from functools import lru_cache

from kdzoo.foreign import visible

# Only what would act: an underscore inside a word, a lone bracket or a "less than" before a number stay readable.
_MARKDOWN = re.compile(r"[\\|*`~$]|](?=[(\[])|(?<![^\W_])_|_(?![^\W_])")
_HTML = re.compile(r"<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_ADDRESS = re.compile(r"(https?://\S+|(\.{0,2}/)?[\w./-]+\.(md|html)(#[\w.-]*)?|#[\w.-]+)")


def markdown(text: str) -> str:
    """Text for a cell of a GitHub table: no markup, no HTML, no cell of its own."""
    marked = _MARKDOWN.sub(r"\\\g<0>", visible(text))
    return _HTML.sub(lambda found: "&lt;" if found.group() == "<" else "&amp;", marked)


def latex(text: str) -> str:
    """Text for LaTeX's text mode."""
    return "".join(_LATEX.get(character, character) for character in visible(text))


@lru_cache(4096)  # most texts stand in many rows
def csv_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: one that would start one gets a leading apostrophe."""
    plain = visible(text)
    return f"'{plain}" if plain.lstrip().startswith(_FORMULA) else plain


def safe_url(url: str) -> str:
    """The address, if it is a relative one or one of the web; else nothing, so that no address runs a script."""
    # A browser cuts spaces off before it looks for a scheme.
    plain = url.isprintable() and url == url.strip() and not url.startswith(("//", "/\\", "\\"))
    scheme = _SCHEME.match(url)
    return url if plain and (scheme is None or scheme.group().lower() in ("http:", "https:")) else ""


def is_address(text: str) -> bool:
    """Whether a card is the address of a page, and not the card itself."""
    return _ADDRESS.fullmatch(text) is not None and bool(safe_url(text))
