"""The columns for which a board's first table has no room: intervals with their n, p values, what else was measured."""

from __future__ import annotations

from kdzoo.board.display import NONE, STRATEGY, STUDENT, TEACHER, Shown, Table, Values, number, time_text

TITLE = "More of these rows"
WHERE = (
    "`kdzoo board --format md` (or latex, csv, json) has more of each row: intervals of top-1, gap and vs soft, p"
    " values by Holm, agreement with the teacher, calibration error, and the range of times"
)
NOTES = (
    "top-1 interval: Student's 95% t interval over the done seeds; p: two-sided p value of the paired t test, by Holm"
    " for the number of rows of the pair; vs soft: as vs ce, with its 95% paired t interval",
    "agreement: share of test samples on which student and teacher guess alike; ECE: expected calibration error, 15"
    " bins; range of time: lowest and highest of the seeds' ratios",
)


def range_text(row: Values, name: str, *, sign: bool = False, factor: float = 1.0, unit: str = "") -> str:
    """``[low, high]`` of a column that has such ends, or why there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return row[f"{name}_note"] or NONE
    digits = 0 if unit == "%" else 2
    ends = (number(factor * end, digits, sign=sign, unit=unit) for end in (low, high))
    return f"[{', '.join(ends)}]"


def gap_text(row: Values) -> str:
    """The interval of the recovered gap, and its n."""
    return _with_n(row, "gap_recovered", range_text(row, "gap_recovered", factor=100, unit="%"))


def soft_text(row: Values) -> str:
    """The interval of the difference to ``soft``, and its n."""
    return _with_n(row, "diff_soft", range_text(row, "diff_soft", sign=True))


def times_text(row: Values) -> str:
    """The time beside ``ce``, its range over the seeds, and their number."""
    if row["time_vs_ce"] is None:
        return time_text(row)
    return _with_n(row, "time_vs_ce", f"{time_text(row)} {range_text(row, 'time_vs_ce')}")


def _with_n(row: Values, name: str, text: str) -> str:
    """The text with the number of seeds behind it, where there is a range."""
    return text if row[f"{name}_low"] is None else f"{text} (n={row[f'{name}_n']})"


def p_text(value: float | None) -> str:
    """A p value to three digits."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


_MORE = (
    STRATEGY,
    TEACHER,
    STUDENT,
    Shown("n", "right", lambda row: str(row["done"])),
    Shown("top-1 interval", "left", lambda row: range_text(row, "top1")),
    Shown("p vs ce", "right", lambda row: p_text(row["diff_ce_p_holm"])),
    Shown("vs soft", "right", lambda row: number(row["diff_soft"], sign=True)),
    Shown("vs soft interval", "left", soft_text),
    Shown("p vs soft", "right", lambda row: p_text(row["diff_soft_p_holm"])),
    Shown("gap interval", "left", gap_text),
    Shown("agreement", "right", lambda row: number(row["agreement"], unit="%")),
    Shown("ECE %", "right", lambda row: number(row["ece"])),
    Shown("time, range", "left", times_text),
)


def more(table: Table) -> tuple[Shown, ...]:
    """The columns of a second table of the same rows: those that say something of any of them."""
    columns = [column for column in _MORE if column.header not in table.same]
    told = {column.header for column in columns for row in table.rows if column.text(row) != NONE}
    return tuple(column for column in columns if column.header in told)
