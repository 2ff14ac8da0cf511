"""Whether two measurements of one thing agree: exactly, or within the tolerance of a measure that adds up fractions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from kdzoo.measures import Measure, known, main_of

_TRIAL = re.compile(r"curve\[\d+\]\Z")
_ON_TUNE = re.compile(r"curve\[\d+\](\.tune)?\Z")
"""After an epoch, of a record or of a trial: how often it is measured is for each bench to say."""
_MOST_SHOWN = 3


def differences(first: Any, second: Any, place: str = "", declared: Sequence[Measure] = ()) -> list[str]:
    """Where two values of JSON differ, as ``test.nll 0.12 and 0.34``; nothing where they agree.

    Args:
        first, second: what ``model_dump(mode="json")`` gives of two measurements.
        place: what to call them; empty for the whole.
        declared: the measures that are not kdzoo's own; each measure says how nearly two of its values must agree.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        names = sorted(first.keys() | second.keys())
        return [
            difference
            for name in names
            for difference in differences(
                first.get(name), second.get(name), f"{place}.{name}" if place else name, declared
            )
        ]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [
            difference
            for number, (one, other) in pairs
            for difference in differences(one, other, f"{place}[{number}]", declared)
        ]
    measure = main_of(declared) if _TRIAL.search(place) else known(declared).get(place.rpartition(".")[2])
    if first == second or (measure and _near(first, second, measure.tolerance)):
        return []
    if (first is None or second is None) and _ON_TUNE.search(place):
        return []
    return [f"{place} {_text(first)} and {_text(second)}"]


def differences_text(found: list[str]) -> str:
    """The first of the differences, in one line."""
    more = len(found) - _MOST_SHOWN
    return ", ".join(found[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _near(first: Any, second: Any, tolerance: float) -> bool:
    return isinstance(first, int | float) and isinstance(second, int | float) and abs(first - second) <= tolerance


def _text(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else "nothing" if value is None else repr(value)
