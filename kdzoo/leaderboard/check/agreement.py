"""Whether two measurements of one thing agree: to the count where they count, nearly where they add up fractions."""

from __future__ import annotations

import re
from typing import Any

TOLERANCE = 1e-4
"""Nats and percentage points by which NLL and ECE may differ: another processor adds up in another order."""

_NEARLY = frozenset({"nll", "ece"})
_ON_TUNE = re.compile(r"curve\[\d+\](\.tune_top1)?\Z")
"""After an epoch, of a record or of a trial: how often it is measured is for each bench to say."""
_MOST_TOLD = 3


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Where two values of JSON differ, as ``test.nll 0.12 and 0.34``; nothing where they agree.

    Args:
        first, second: what ``model_dump(mode="json")`` gives of two measurements.
        place: what to call them; empty for the whole.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        names = sorted(first.keys() | second.keys())
        return [
            told
            for name in names
            for told in differences(first.get(name), second.get(name), f"{place}.{name}" if place else name)
        ]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [told for number, (one, other) in pairs for told in differences(one, other, f"{place}[{number}]")]
    if first == second or (place.rpartition(".")[2] in _NEARLY and _near(first, second)):
        return []
    if (first is None or second is None) and _ON_TUNE.search(place):
        return []
    return [f"{place} {_text(first)} and {_text(second)}"]


def told(found: list[str]) -> str:
    """The first of the differences, in one line."""
    more = len(found) - _MOST_TOLD
    return ", ".join(found[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def _near(first: Any, second: Any) -> bool:
    return isinstance(first, float) and isinstance(second, float) and abs(first - second) <= TOLERANCE


def _text(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else "nothing" if value is None else repr(value)
