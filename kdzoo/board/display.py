"""What a printed board says, as plain words: headings, cells, problems and notes. How they look is the format's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kdzoo.board.columns import plain_rows, sort_column
from kdzoo.board.labels import VOUCHED, params_text
from kdzoo.board.stats import FEWEST_RESAMPLED
from kdzoo.board.table import Board, Group, Problem
from kdzoo.board.times import COMPILED, STEADY, UNSTEADY
from kdzoo.board.tuned_rows import to_tuned, tuning_notes
from kdzoo.errors import counted

Values = dict[str, Any]

NONE = "-"
"""What a cell without a value shows."""


@dataclass(frozen=True)
class Shown:
    """A printed column: its header, the side its cells lean to, and the words of one row."""

    header: str
    align: Literal["left", "right"]
    text: Callable[[Values], str]


@dataclass(frozen=True)
class Table:
    """One table to print: its group, rows in order, and problems."""

    group: Group
    rows: list[Values]
    problems: list[Problem]

    @property
    def same(self) -> set[str]:
        """Those of teacher and student that all rows share."""
        return {name for name in ("teacher", "student") if len({row[name] for row in self.rows}) == 1}


def tables(board: Board, sort: str) -> list[Table]:
    """The tables of a board, their rows sorted, as plain values; None where there is none.

    Raises:
        UsageError: ``sort`` names no column.
    """
    column, descending = sort_column(sort)
    frame = board.frame.sort_values(column.name, ascending=not descending, kind="stable", na_position="last")
    found = [Table(group, [], []) for group in board.groups]
    for row in plain_rows(frame):
        row["params"] = json.loads(row["params"])
        row["tune_space"] = json.loads(row["tune_space"]) if row["tune_space"] else None
        found[row["group"]].rows.append(row)
    for problem in board.problems:
        found[problem.group].problems.append(problem)
    return found


def millions(parameters: int | None) -> str:
    """A number of parameters in millions, to three digits."""
    if parameters is None:
        return NONE
    value = parameters / 1e6
    return f"{value:.0f}M" if value >= 100 else f"{value:.3g}M"


def number(value: float | None, digits: int = 2, *, sign: bool = False, unit: str = "") -> str:
    """A number, never minus zero."""
    if value is None:
        return NONE
    rounded = round(value, digits) + 0.0
    return (f"{rounded:+.{digits}f}" if sign else f"{rounded:.{digits}f}") + unit


def seeds_text(row: Values) -> str:
    """``3/3``, or ``1/3 (1 failed, 1 missing)``."""
    lacking = [f"{row[kind]} {kind}" for kind in ("failed", "missing") if row[kind]]
    return f"{row['done']}/{row['seeds']}" + (f" ({', '.join(lacking)})" if lacking else "")


def interval_text(row: Values) -> str:
    """The interval of the difference to ``ce`` or why there is none; whether that ``ce`` was tuned; and the n where it
    is not the row's."""
    note = row["diff_ce_note"]
    text = note or f"[{number(row['diff_ce_low'], sign=True)}, {number(row['diff_ce_high'], sign=True)}]"
    text += " (tuned)" if to_tuned(row) else ""
    return text + (f" (n={row['diff_ce_n']})" if _partly_paired(row) else "")


def strategy_text(row: Values) -> str:
    """The strategy, its variant and all its parameters."""
    return " ".join(filter(None, (row["strategy"], row["variant"], params_text(row["params"]))))


def tuning_text(row: Values) -> str:
    """How many trials the tuning of the row had, what they took, and the pruner if there was one."""
    if row["trials"] is None:
        return NONE
    took = number(row["tuning_seconds"], 0 if row["tuning_seconds"] >= 10 else 1, unit=" s")
    pruner = [] if row["pruner"] == "none" else [row["pruner"]]
    trials = counted(row["trials"], "trial") + (f" ({row['tune_settings']})" if row["tune_settings"] else "")
    return ", ".join([trials, took, *pruner])


def teacher_text(row: Values) -> str:
    """The teacher, its parameters and its test top-1."""
    if not row["teacher"]:
        return NONE
    top1 = number(row["teacher_top1"], unit="%")
    told = " ".join([row["teacher"], *(part for part in (millions(row["teacher_parameters"]), top1) if part != NONE)])
    return told + (f" ({VOUCHED})" if was_vouched(row) else "")


def was_vouched(row: Values) -> bool:
    """Whether the teacher taught though it is not above chance."""
    return bool(row["teacher_weights"].endswith(f", {VOUCHED}"))


def student_text(row: Values) -> str:
    """The student, its parameters and how much smaller than the teacher it is."""
    compression = number(row["compression"], 1, unit="x")
    return " ".join(
        [row["student"], *(part for part in (millions(row["student_parameters"]), compression) if part != NONE)]
    )


def percent(name: str, digits: int) -> Callable[[Values], str]:
    """A share as a percentage."""
    return lambda row: NONE if row[name] is None else number(100 * row[name], digits, unit="%")


def time_text(row: Values) -> str:
    """Seconds of training beside those of ``ce``, or why they tell nothing."""
    note = row["time_vs_ce_note"]
    return note if note in (COMPILED, UNSTEADY) else number(row["time_vs_ce"], unit="x")


STRATEGY = Shown("strategy", "left", strategy_text)
TEACHER = Shown("teacher", "left", teacher_text)
STUDENT = Shown("student", "left", student_text)
SEEDS = Shown("seeds", "left", seeds_text)
INTERVAL = Shown("95% interval", "left", interval_text)
SHOWN: tuple[Shown, ...] = (
    Shown("#", "right", lambda row: NONE if row["rank"] is None else str(row["rank"])),
    STRATEGY,
    Shown("top-1 %", "right", lambda row: number(row["top1"])),
    Shown("sd", "right", lambda row: number(row["top1_sd"])),
    Shown("vs ce", "right", lambda row: number(row["diff_ce"], sign=True)),
    INTERVAL,
    TEACHER,
    STUDENT,
    SEEDS,
    Shown("gap", "right", percent("gap_recovered", 0)),
    Shown("retention", "right", percent("retention", 1)),
    Shown("time", "right", time_text),
)
TUNING = Shown("tuning", "left", tuning_text)


def shown(table: Table) -> tuple[Shown, ...]:
    """The printed columns of a table: without those that the heading tells for all rows, and that of tuning only
    where a row is tuned."""
    tuned = any(row["trials"] is not None for row in table.rows)
    return tuple(column for column in SHOWN + (TUNING,) * tuned if column.header not in table.same)


def title(group: Group) -> str:
    """The group's title, with what sets it apart."""
    return group.full_title


def heading(table: Table) -> list[tuple[str, str]]:
    """What is true of the whole table: (word, text), the most important first."""
    group, rows = table.group, table.rows
    lines = []
    if "teacher" in table.same and rows[0]["teacher"]:
        top1 = number(_common(rows, "teacher_top1"), unit=" %")
        size = millions(_common(rows, "teacher_parameters"))
        lines.append(("teacher", f"{rows[0]['teacher']}, {size} parameters, test top-1 {top1}, {_weights(rows)}"))
    if "student" in table.same:
        compression = _common(rows, "compression")
        smaller = "" if compression is None else f", {_compared(compression)}"
        size = millions(_common(rows, "student_parameters"))
        lines.append(
            ("student", f"{rows[0]['student']}, {size} parameters{smaller}, {group.init.partition(':')[0]} init")
        )
    lines.append(("recipe", group.recipe))
    if group.tuning:
        lines.append(("tuning", group.tuning))
    lines.append(("data", group.data))
    older = " (an older one: its numbers do not compare with today's)" if group.outdated else ""
    seeds = f"{len(group.seeds)} ({_ranges(group.seeds)})"
    lines.append(("seeds", f"{seeds}, protocol {group.protocol}, evaluation {group.evaluation}{older}"))
    return lines


def _compared(compression: float) -> str:
    """Teacher over student, in words that are true of a larger student too."""
    if f"{compression:.1f}" == "1.0":
        return "as large as the teacher"
    return f"{number(compression, 1)}x smaller" if compression > 1 else f"{number(1 / compression, 1)}x larger"


def problem_text(problem: Problem, *, with_pair: bool) -> str:
    """One line for seeds without a result, or for a study."""
    pair = f" ({problem.teacher or 'no teacher'} -> {problem.student})" if with_pair else ""
    seeds = (", seed " if len(problem.seeds) == 1 else ", seeds ") + _ranges(problem.seeds) if problem.seeds else ""
    return f"{problem.row}{pair}{seeds}" + (f": {problem.reason}" if problem.reason else "")


def notes(board: Board, printed: Sequence[Table], emphasis: str) -> list[str]:
    """How the numbers were made, and what was odd.

    Args:
        printed: the board's tables.
        emphasis: how a row is marked whose interval excludes 0.
    """
    rows = [row for table in printed for row in table.rows]
    reasons = {row["diff_ce_note"] for row in rows}
    lines = [
        "top-1: mean over the done seeds, test set, last epoch; sd: standard deviation (n-1) over them",
        "vs ce: mean difference to ce on the same seeds, in points, with its 95% paired t interval;"
        f" {emphasis} where it excludes 0, above or below; the interval is not corrected for the number of rows, so of"
        " many rows a few stand out by chance",
    ]
    if "n<3" in reasons:
        lines.append("n<3: no interval, because fewer than 3 seeds are shared with ce")
    if "no spread" in reasons:
        lines.append("no spread: no interval, because the difference is the same for every seed")
    if any(_partly_paired(row) for row in rows):
        lines.append("(n=...): seeds shared with ce, where these are not all of the row's done seeds")
    lines.append(
        f"gap: (top-1 - ce) / (teacher - ce) on the same seeds, {NONE} where the teacher is not above ce; its 95%"
        f" interval: bootstrap-t over the n paired seeds, from {FEWEST_RESAMPLED} seeds on, because fewer give none"
        " that covers 95% and is worth having; retention: top-1 / teacher"
    )
    lines.append("time: median over the seeds that both have of the seconds of training / those of ce")
    if any(row["time_vs_ce_note"] == UNSTEADY for row in rows):
        lines.append(
            f"{UNSTEADY}: no time, because between the seeds of the row, or of ce, the seconds differ by more than"
            f" {STEADY:g} times, and so tell of what else the machine did"
        )
    if any(row["time_vs_ce_note"] == COMPILED for row in rows):
        lines.append(f"{COMPILED}: no time, because the seconds hold the time of compiling, which most cells find done")
    return lines + tuning_notes(rows) + list(board.remarks)


def _partly_paired(row: Values) -> bool:
    return bool(0 < row["diff_ce_n"] != row["done"])


def _common(rows: Sequence[Values], name: str) -> Any:
    """The value that all rows share which have one; None where they differ or have none."""
    found = {row[name] for row in rows if row[name] is not None}
    return found.pop() if len(found) == 1 else None


def _weights(rows: Sequence[Values]) -> str:
    words = {"trained": "trained here", "finetuned": "fine-tuned here", "file": "weights from a file"}
    weights = str(rows[0]["teacher_weights"]).removesuffix(f", {VOUCHED}")
    told = ", not above chance and vouched for" if any(map(was_vouched, rows)) else ""
    return words.get(weights, weights) + told


def _ranges(seeds: Sequence[int]) -> str:
    """Ascending numbers with runs drawn together: ``0-2, 5``."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
