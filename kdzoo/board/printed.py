"""The printed columns of a board: their headers, and what the cell of a row shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdzoo.board.aggregate import COMPILED, UNSTEADY
from kdzoo.board.labels import VOUCHED, params_text
from kdzoo.errors import counted
from kdzoo.measures import Measure

RowValues = dict[str, Any]
"""The columns of one row as plain values; None where there is none."""

NONE = "-"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class PrintedColumn:
    """A printed column: its header, the side its cells lean to, and the words of one row."""

    header: str
    align: Literal["left", "right"]
    text: Callable[[RowValues], str]


def number(value: float | None, digits: int = 2, *, sign: bool = False, unit: str = "") -> str:
    """A number, never minus zero."""
    if value is None:
        return NONE
    rounded = round(value, digits) + 0.0
    return (f"{rounded:+.{digits}f}" if sign else f"{rounded:.{digits}f}") + unit


def score_text(value: float | None, measure: Measure, *, space: str = "") -> str:
    """A value of a measure with a percent sign, where its values have one."""
    return NONE if value is None else measure.text(value, space)


def millions(parameters: int | None) -> str:
    """A number of parameters in millions, to three digits."""
    if parameters is None:
        return NONE
    value = parameters / 1e6
    return f"{value:.0f}M" if value >= 100 else f"{value:.3g}M"


def p_text(value: float | None) -> str:
    """A p value to three digits."""
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def range_text(
    row: RowValues, name: str, digits: int = 2, *, sign: bool = False, factor: float = 1.0, unit: str = ""
) -> str:
    """``[low, high]`` of a column that has such ends, or why there is none."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return row[f"{name}_note"] or NONE
    ends = (number(factor * end, digits, sign=sign, unit=unit) for end in (low, high))
    return f"[{', '.join(ends)}]"


def strategy_text(row: RowValues) -> str:
    """The strategy, its variant and all its parameters."""
    return " ".join(filter(None, (row["strategy"], row["variant"], params_text(row["params"]))))


def seeds_text(row: RowValues) -> str:
    """``3/3``, or ``1/3 (1 failed, 1 missing)``."""
    lacking = [f"{row[kind]} {kind}" for kind in ("failed", "missing") if row[kind]]
    return f"{row['done']}/{row['seeds']}" + (f" ({', '.join(lacking)})" if lacking else "")


def interval_text(row: RowValues, main: Measure) -> str:
    """The interval of the difference to ``ce`` or why there is none; whether that ``ce`` was tuned; and the n where it
    is not the row's."""
    ends = (number(row[f"diff_ce_{end}"], main.digits, sign=True) for end in ("low", "high"))
    text = (row["diff_ce_note"] or f"[{', '.join(ends)}]") + (" (tuned)" if to_tuned(row) else "")
    return text + (f" (n={row['diff_ce_n']})" if partly_paired(row) else "")


def to_tuned(row: RowValues) -> bool:
    """Whether the row is compared with a ``ce`` row that was tuned."""
    return bool(row["diff_ce_to_variant"].startswith("tuned") and row["diff_ce_n"])


def partly_paired(row: RowValues) -> bool:
    """Whether ``ce`` shares some of the row's seeds, and not all."""
    return bool(0 < row["diff_ce_n"] != row["done"])


def was_vouched(row: RowValues) -> bool:
    """Whether the teacher taught though it is not above chance."""
    return bool(row["teacher_weights"].endswith(f", {VOUCHED}"))


def _teacher_text(row: RowValues, main: Measure) -> str:
    """The teacher, its parameters and its score on test."""
    if not row["teacher"]:
        return NONE
    figures = (millions(row["teacher_parameters"]), score_text(row[main.on("teacher")], main))
    text = " ".join([row["teacher"], *(figure for figure in figures if figure != NONE)])
    return text + (f" ({VOUCHED})" if was_vouched(row) else "")


def _student_text(row: RowValues) -> str:
    """The student, its parameters and how much smaller than the teacher it is."""
    figures = (millions(row["student_parameters"]), number(row["compression"], 1, unit="x"))
    return " ".join([row["student"], *(figure for figure in figures if figure != NONE)])


def _rank_text(row: RowValues) -> str:
    return NONE if row["rank"] is None else str(row["rank"])


def _share(name: str, digits: int) -> Callable[[RowValues], str]:
    """A share as a percentage."""
    return lambda row: NONE if row[name] is None else number(100 * row[name], digits, unit="%")


def _with_n(row: RowValues, name: str, text: str) -> str:
    """The text with the number of seeds behind it, where there is a range."""
    return text if row[f"{name}_low"] is None else f"{text} (n={row[f'{name}_n']})"


def _gap_text(row: RowValues) -> str:
    """The interval of the recovered gap, and its n."""
    return _with_n(row, "gap_recovered", range_text(row, "gap_recovered", 0, factor=100, unit="%"))


def _soft_text(row: RowValues, main: Measure) -> str:
    """The interval of the difference to ``soft``, and its n."""
    return _with_n(row, "diff_soft", range_text(row, "diff_soft", main.digits, sign=True))


def _time_text(row: RowValues) -> str:
    """Training time relative to ``ce``, or why there is none."""
    note = row["time_vs_ce_note"]
    return note if note in (COMPILED, UNSTEADY) else number(row["time_vs_ce"], unit="x")


def _times_text(row: RowValues) -> str:
    """Training time relative to ``ce``, its range over the seeds, and their number."""
    if row["time_vs_ce"] is None:
        return _time_text(row)
    return _with_n(row, "time_vs_ce", f"{_time_text(row)} {range_text(row, 'time_vs_ce')}")


def _tuning_text(row: RowValues) -> str:
    """How many trials the tuning of the row had, what they took, and the pruner if there was one."""
    if row["trials"] is None:
        return NONE
    took = number(row["tuning_seconds"], 0 if row["tuning_seconds"] >= 10 else 1, unit=" s")
    pruner = [] if row["pruner"] == "none" else [row["pruner"]]
    trials = counted(row["trials"], "trial") + (f" ({row['tune_settings']})" if row["tune_settings"] else "")
    return ", ".join([trials, took, *pruner])


STRATEGY = PrintedColumn("strategy", "left", strategy_text)
STUDENT = PrintedColumn("student", "left", _student_text)
INTERVAL = "95% interval"
"""The header of the column that a terminal marks."""


def teacher_column(main: Measure) -> PrintedColumn:
    """The teacher with its size and its score."""
    return PrintedColumn("teacher", "left", lambda row: _teacher_text(row, main))


def difference_column(name: str, main: Measure) -> PrintedColumn:
    """The mean difference to a baseline."""
    return PrintedColumn(f"vs {name}", "right", lambda row: number(row[f"diff_{name}"], main.digits, sign=True))


def measure_text(measure: Measure) -> Callable[[RowValues], str]:
    """What a cell of a measure shows: a percent sign where the header has none."""
    if measure.unit == "%" and not measure.heading.endswith("%"):
        return lambda row: score_text(row[measure.column], measure)
    return lambda row: number(row[measure.column], measure.digits)


def measure_column(measure: Measure) -> PrintedColumn:
    """The mean of a measure."""
    return PrintedColumn(measure.heading, "right", measure_text(measure))


def extra_measures(
    main: Measure, measures: Sequence[Measure], where: Literal["table", "more", "page"]
) -> list[Measure]:
    """The measures beside the main one that are shown somewhere, by name."""
    found = (measure for measure in measures if where in measure.shown and measure != main)
    return sorted(found, key=lambda measure: measure.name)


def table_columns(main: Measure, measures: Sequence[Measure], *, tuned: bool) -> list[PrintedColumn]:
    """The columns of the first table of a group.

    Args:
        main: what ranks its rows.
        measures: all measures of the board.
        tuned: whether any row was tuned.
    """
    columns = [
        PrintedColumn("#", "right", _rank_text),
        STRATEGY,
        measure_column(main),
        PrintedColumn("sd", "right", lambda row: number(row[f"{main.name}_sd"], main.digits)),
        difference_column("ce", main),
        PrintedColumn(INTERVAL, "left", lambda row: interval_text(row, main)),
        teacher_column(main),
        STUDENT,
        PrintedColumn("seeds", "left", seeds_text),
        *(measure_column(measure) for measure in extra_measures(main, measures, "table")),
        PrintedColumn("gap", "right", _share("gap_recovered", 0)),
        PrintedColumn("retention", "right", _share("retention", 1)),
        PrintedColumn("time", "right", _time_text),
    ]
    return columns + [PrintedColumn("tuning", "left", _tuning_text)] * tuned


def more_columns(main: Measure, measures: Sequence[Measure]) -> list[PrintedColumn]:
    """The columns of a second table of the same rows, for which the first has no room.

    Args:
        main, measures: as for :func:`table_columns`.
    """
    return [
        STRATEGY,
        teacher_column(main),
        STUDENT,
        PrintedColumn("n", "right", lambda row: str(row["done"])),
        PrintedColumn(f"{main.title} interval", "left", lambda row: range_text(row, main.name, main.digits)),
        PrintedColumn("p vs ce", "right", lambda row: p_text(row["diff_ce_p_holm"])),
        difference_column("soft", main),
        PrintedColumn("vs soft interval", "left", lambda row: _soft_text(row, main)),
        PrintedColumn("p vs soft", "right", lambda row: p_text(row["diff_soft_p_holm"])),
        PrintedColumn("gap interval", "left", _gap_text),
        *(measure_column(measure) for measure in extra_measures(main, measures, "more")),
        PrintedColumn("time, range", "left", _times_text),
    ]


def page_columns(main: Measure, measures: Sequence[Measure]) -> list[tuple[str, str, Callable[[RowValues], str]]]:
    """The columns of an HTML page's table.

    Args:
        main, measures: as for :func:`table_columns`.

    Returns:
        For each: the column of the frame by whose values it is sorted, its header, and the words of a row.
    """
    return [
        ("rank", "#", _rank_text),
        ("strategy", "strategy", lambda row: str(row["strategy"]) or NONE),
        (main.name, main.heading, measure_text(main)),
        (f"{main.name}_sd", "sd", lambda row: number(row[f"{main.name}_sd"], main.digits)),
        ("diff_ce", "vs ce", difference_column("ce", main).text),
        ("diff_ce_low", INTERVAL, lambda row: interval_text(row, main)),
        ("diff_ce_p_holm", "p (Holm)", lambda row: p_text(row["diff_ce_p_holm"])),
        ("done", "seeds", seeds_text),
        ("family", "family", lambda row: str(row["family"]) or NONE),
        ("diff_soft", "vs soft", difference_column("soft", main).text),
        ("gap_recovered", "gap", _share("gap_recovered", 0)),
        ("retention", "retention", _share("retention", 1)),
        *((one.column, one.heading, measure_text(one)) for one in extra_measures(main, measures, "page")),
        ("time_vs_ce", "time, range", _times_text),
        ("trials", "trials", _trials_text),
        ("tuning_seconds", "tuning s", lambda row: number(row["tuning_seconds"], 0)),
        (
            f"{main.name}_low",
            f"{main.title} 95% interval",
            lambda row: range_text(row, main.name, main.digits),
        ),
        ("gap_recovered_low", "gap 95% interval (bootstrap-t)", _gap_text),
        ("diff_soft_low", "vs soft 95% interval", lambda row: _soft_text(row, main)),
        ("diff_soft_p_holm", "vs soft p (Holm)", lambda row: p_text(row["diff_soft_p_holm"])),
    ]


def _trials_text(row: RowValues) -> str:
    if row["trials"] is None:
        return NONE
    return f"{row['trials']}" + (f" ({row['tune_settings']})" if row["tune_settings"] else "")
