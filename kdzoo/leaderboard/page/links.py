"""Addresses that a page may link to."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_ADDRESS = re.compile(r"(https?://\S+|(\.{0,2}/)?[\w./-]+\.(md|html)(#[\w.-]*)?|#[\w.-]+)")


def safe_url(url: str) -> str:
    """The address, if it is a relative one or one of the web; else nothing, so that no address runs a script."""
    # A browser cuts spaces off before it looks for a scheme.
    printable = url.isprintable() and url == url.strip() and not url.startswith(("//", "/\\", "\\"))
    scheme = _SCHEME.match(url)
    return url if printable and (scheme is None or scheme.group().lower() in ("http:", "https:")) else ""


def is_address(text: str) -> bool:
    """Whether a card is the address of a page, and not the card itself."""
    return _ADDRESS.fullmatch(text) is not None and bool(safe_url(text))
