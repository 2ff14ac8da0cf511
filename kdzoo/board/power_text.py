"""How many seeds would show a difference of some points, for every row of a board, as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kdzoo.board.display import NONE, STRATEGY, STUDENT, TEACHER, Shown, Table, Values, number, title
from kdzoo.board.power import MOST, POWER, SIGNIFICANCE, Needed, needed, sd_of_interval
from kdzoo.board.stats import FEWEST
from kdzoo.board.terminal import folded, grid
from kdzoo.errors import UsageError


def checked_points(points: float) -> float:
    """A difference that can be looked for.

    Raises:
        UsageError: it is not above 0, or not finite.
    """
    if not (math.isfinite(points) and points > 0):
        raise UsageError(f"--power {points:g} is no difference to look for; give points above 0, such as --power 0.5")
    return points


def to_power(printed: Sequence[Table], points: float, width: int) -> str:
    """One table for each group: the seeds that would show a difference to ce of so many points.

    Args:
        printed: the board's tables.
        points: the difference, points of top-1.
        width: columns that a table may take, where that is possible.
    """
    blocks = [text for table in printed if (text := _table(table, points, width))]
    if not blocks:
        return "no differences to ce yet\n"
    method = "\n".join(folded(note, width, 2) for note in _notes(points))
    return "\n\n\n".join([*blocks, method]) + "\n"


def _table(table: Table, points: float, width: int) -> str:
    """The rows that have a difference to ce; empty where none has."""
    rows = [row | {"needed": _needed(row, points), "bold": False} for row in table.rows if row["diff_ce"] is not None]
    if not rows:
        return ""
    columns = [column for column in _columns(points) if column.header not in table.same]
    return "\n".join([folded(title(table.group), width, 2), "", grid(columns, rows, width)])


def _needed(row: Values, points: float) -> Needed | None:
    """None where the spread is not known: below three shared seeds, or with none between them."""
    low, high, n = row["diff_ce_low"], row["diff_ce_high"], row["diff_ce_n"]
    return None if low is None or high is None else needed(points, sd_of_interval(low, high, n), n)


def _columns(points: float) -> tuple[Shown, ...]:
    return (
        STRATEGY,
        TEACHER,
        STUDENT,
        Shown("n", "right", lambda row: str(row["diff_ce_n"])),
        Shown("vs ce", "right", lambda row: number(row["diff_ce"], sign=True)),
        Shown("sd of vs ce", "right", lambda row: number(row["needed"] and row["needed"].sd)),
        Shown(f"seeds for {points:g}", "right", lambda row: _seeds(row["needed"])),
        Shown("95% range", "left", _range),
        Shown("n shows", "right", lambda row: number(row["needed"] and row["needed"].shown)),
    )


def _seeds(found: Needed | None) -> str:
    return NONE if found is None else _count(found.seeds)


def _range(row: Values) -> str:
    found: Needed | None = row["needed"]
    if found is None:
        return str(row["diff_ce_note"])
    return f"{_count(found.seeds_low)} to {_count(found.seeds_high)}"


def _count(seeds: int | None) -> str:
    return f"over {MOST:,}" if seeds is None else f"{seeds:,}"


def _notes(points: float) -> list[str]:
    return [
        f"seeds for {points:g}: the fewest seeds, at least {FEWEST}, with which a two-sided paired t test at"
        f" {SIGNIFICANCE} shows a difference to ce of {points:g} points with probability {POWER} (non-central t), if"
        " the sd of the differences were exactly the one seen",
        "n: seeds shared with ce; sd of vs ce: standard deviation (n-1) of the n paired differences, points",
        "95% range: the same at the ends of the 95% chi-square interval of that sd; from few seeds the sd is known"
        " badly and the range is wide",
        f"n shows: the smallest difference, points, that the n seeds there are would show with probability {POWER}",
        f"n<{FEWEST} or no spread in the place of the range: the seeds so far say nothing of the spread",
    ]
