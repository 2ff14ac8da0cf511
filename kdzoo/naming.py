"""What a strategy, a dataset or a tracker may be called, so that the command line can speak of it."""

from __future__ import annotations

from typing import Any

RESERVED = frozenset({"all", "recipe"})
"""No strategy has one of these names, because of `--strategies all` and `--set recipe.key=value`."""

MOST = 100
"""Characters of a name."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def fault(name: Any) -> str:
    """What is wrong with a name, as the end of a sentence about it; empty where nothing is."""
    if not (isinstance(name, str) and name and set(name) <= _LETTERS):
        return f"must be of a-z, 0-9, _ and -, not {name!r}"
    if len(name) > MOST:
        return f"has {len(name):,} characters, and may have {MOST}"
    return "" if name[0].isalpha() else f"must begin with one of a-z, not {name!r}"
