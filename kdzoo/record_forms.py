"""The JSON of records of older schemas in today's form, and back: a record is written as its schema has it."""

from __future__ import annotations

from typing import Any

from kdzoo.measures import AGREEMENT, BANK, TOP1, Scores, image_counts, image_scores

NAMED = 6
"""The first schema whose scores go by the names of measures."""

_OLD_TUNE = TOP1.on("tune")
"""What a line of the curve called its score before."""


def in_todays_form(values: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a record of any schema as today's has it; it keeps its number, by which it is written again.

    Raises:
        ValueError: an older record holds what its schema does not.
    """
    version = values.get("record_schema")
    if not isinstance(version, int) or not 1 <= version < NAMED:
        return values
    values = dict(values)
    teacher = values.get("teacher")
    if isinstance(teacher, dict):
        values["teacher"] = teacher = dict(teacher)
    for place, holder in (("", values), ("teacher.", teacher or {})):
        for split in ("tune", "test"):
            if isinstance(counts := holder.get(split), dict):
                holder[split] = _scores_of(counts, place + split)
    agreement = values.pop(AGREEMENT.name, None)
    if agreement is not None:
        if values.get("test") is None:
            raise ValueError("a trial is not measured on test")
        values["test"][AGREEMENT.name] = agreement
    if isinstance(values.get("cost"), dict):
        values["cost"] = {BANK.name: 0.0} | values["cost"]
    if isinstance(curve := values.get("curve"), list):
        values["curve"] = [line_in_todays_form(line) for line in curve]
    return values


def line_in_todays_form(line: Any) -> Any:
    """A line of a learning curve of any schema as today's has it."""
    if isinstance(line, dict) and _OLD_TUNE in line:
        score = line[_OLD_TUNE]
        return _without(line, _OLD_TUNE) | {"tune": None if score is None else {TOP1.name: score}}
    return line


def _scores_of(counts: dict[str, Any], place: str) -> Scores:
    try:
        return image_scores(**counts)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def in_older_form(values: dict[str, Any]) -> dict[str, Any]:
    """Today's JSON of a record as the schemas before the sixth had it."""
    agreement = (values["test"] or {}).pop(AGREEMENT.name, None)
    teacher = values["teacher"]
    for holder in (values, teacher or {}):
        for split in ("tune", "test"):
            if holder.get(split):
                holder[split] = image_counts(holder[split])
    curve = [_without(line, "tune") | {_OLD_TUNE: (line["tune"] or {}).get(TOP1.name)} for line in values["curve"]]
    return _without(values, "measures") | {AGREEMENT.name: agreement, "curve": curve}


def _without(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
