"""The words of a printed board: headings, problems and notes. Each format has its own look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdzoo.board.aggregate import COMPILED, STEADY, UNSTEADY
from kdzoo.board.columns import sort_column
from kdzoo.board.labels import VOUCHED
from kdzoo.board.printed import (
    NONE,
    PrintedColumn,
    RowValues,
    extra_measures,
    millions,
    more_columns,
    number,
    partly_paired,
    score_text,
    table_columns,
    to_tuned,
    was_vouched,
)
from kdzoo.board.stats import FEWEST_RESAMPLED
from kdzoo.board.table import Board, Problem, RowGroup
from kdzoo.board.tuned import pruner_text
from kdzoo.cell import BALANCED
from kdzoo.errors import counted
from kdzoo.measures import Measure

MORE = "More of these rows"
"""The title of a group's second table."""


@dataclass(frozen=True)
class Table:
    """One table to print.

    Attributes:
        group: its group.
        main: the measure that ranks its rows.
        measures: all measures of the board.
        rows: in order, as plain values.
        problems: those of the group.
    """

    group: RowGroup
    main: Measure
    measures: tuple[Measure, ...]
    rows: list[RowValues]
    problems: list[Problem]

    @property
    def same(self) -> set[str]:
        """Those of teacher and student that all rows share."""
        return {name for name in ("teacher", "student") if len({row[name] for row in self.rows}) == 1}

    @property
    def columns(self) -> list[PrintedColumn]:
        """The first columns: without those that the heading has for all rows, and that of tuning only where a row is
        tuned."""
        tuned = any(row["trials"] is not None for row in self.rows)
        measured = [one for one in self.measures if any(row.get(one.column) is not None for row in self.rows)]
        columns = table_columns(self.main, measured, tuned=tuned)
        return [column for column in columns if column.header not in self.same]

    @property
    def more(self) -> list[PrintedColumn]:
        """The columns of a second table of the same rows: those that say something of any of them."""
        columns = [column for column in more_columns(self.main, self.measures) if column.header not in self.same]
        filled = {column.header for column in columns for row in self.rows if column.text(row) != NONE}
        return [column for column in columns if column.header in filled]


def tables(board: Board, sort: str) -> list[Table]:
    """The tables of a board, their rows sorted, as plain values; None where there is none.

    Raises:
        UsageError: ``sort`` names no column.
    """
    column, descending = sort_column(sort, board.columns)
    ordered = board.frame[column.name].sort_values(ascending=not descending, kind="stable", na_position="last")
    found = [Table(group, main, board.measures, [], []) for group, main in zip(board.groups, board.mains, strict=True)]
    for place in ordered.index:
        row = board.rows[place]
        params, space = json.loads(row["params"]), json.loads(row["tune_space"]) if row["tune_space"] else None
        found[row["group"]].rows.append({**row, "params": params, "tune_space": space})
    for problem in board.problems:
        found[problem.group].problems.append(problem)
    return found


def heading(table: Table) -> list[tuple[str, str]]:
    """What is true of the whole table: (word, text), the most important first."""
    group, rows, main = table.group, table.rows, table.main
    lines = []
    if "teacher" in table.same and rows[0]["teacher"]:
        score = score_text(_common(rows, main.on("teacher")), main, space=" ")
        size = millions(_common(rows, "teacher_parameters"))
        lines.append(
            ("teacher", f"{rows[0]['teacher']}, {size} parameters, test {main.title} {score}, {_weights(rows)}")
        )
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
    older = " (older: not comparable with current numbers)" if group.outdated else ""
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


def foot(board: Board) -> list[str]:
    """What the columns of a terminal's table mean, at most four short lines; :func:`notes` has the rest."""
    mains, titles = board.ranked_by, _titles(board)
    lower = ", lower is better" if all(main.best == "lowest" for main in mains) else ""
    return [
        f"{titles}: mean over finished seeds, test set, last epoch{lower}; sd: standard deviation over these seeds",
        f"vs ce: mean difference to ce on shared seeds{_points(board)}; 95% paired t interval, * where it excludes 0",
        "gap: recovered share of the teacher's lead over ce;"
        " time: training time relative to ce, median over shared seeds",
        "Full notes: `kdzoo board --explain`. More columns: `kdzoo board --format md` (or latex, csv, json)",
    ]


def notes(board: Board, printed: Sequence[Table], emphasis: str) -> list[str]:
    """How the numbers were made.

    Args:
        board: the board.
        printed: its tables.
        emphasis: how a row is marked if its interval excludes 0.
    """
    rows = [row for table in printed for row in table.rows]
    reasons = {row["diff_ce_note"] for row in rows}
    times = {row["time_vs_ce_note"] for row in rows}
    mains, titles = board.ranked_by, _titles(board)
    lines = [
        f"{titles}: mean over the finished seeds, test set, last epoch; sd: standard deviation over these seeds (n-1)",
        f"vs ce: mean difference to ce on shared seeds{_points(board)}, with its 95% paired t interval; {emphasis}"
        " where the interval excludes 0, above or below; intervals are not corrected for the number of rows, so among"
        " many rows a few exclude 0 by chance",
    ]
    if lowest := [main.title for main in mains if main.best == "lowest"]:
        lines.append(f"{' and '.join(lowest)}: lower is better, so a difference below 0 is a gain")
    if "n<3" in reasons:
        lines.append("n<3: no interval, because fewer than 3 seeds are shared with ce")
    if "no spread" in reasons:
        lines.append("no spread: no interval, because the difference is the same for every seed")
    if any(partly_paired(row) for row in rows):
        lines.append("(n=...): number of seeds shared with ce, if it is not the number of the row's finished seeds")
    lines += [
        f"gap: share of the teacher's lead over ce that is recovered, ({titles} - ce) / (teacher - ce) on shared seeds;"
        f" {NONE} where the teacher is not above ce; 95% bootstrap-t interval from {FEWEST_RESAMPLED} seeds on, because"
        " with fewer seeds its coverage is too low",
        f"retention: {titles} / teacher",
        "time: training time relative to ce, median over shared seeds",
    ]
    if any(row["strategy"].endswith(BALANCED) for row in rows):
        lines.append(
            f"{BALANCED}: the strategy's terms are scaled so that over the first steps their gradient at the student is"
            " so many times that of the hard-label loss as balance says"
        )
    if UNSTEADY in times:
        lines.append(
            f"{UNSTEADY}: no relative time, because training times of the row or of ce differ by more than"
            f" {STEADY:g}x between seeds, probably from other load on the machine"
        )
    if COMPILED in times:
        lines.append(
            f"{COMPILED}: no relative time, because training times include compilation, which most cells find cached"
        )
    return lines + _tuning_notes(rows, titles)


def _points(board: Board) -> str:
    return ", in points" if all(main.unit == "%" for main in board.ranked_by) else ""


def _tuning_notes(rows: Sequence[RowValues], titles: str) -> list[str]:
    """How the rows were made and compared that a search concerns; nothing where there are none."""
    lines = []
    tuned = [row for row in rows if row["trials"] is not None]
    if tuned:
        numbers = {row["trials"] for row in tuned}
        trials = counted(numbers.pop(), "trial") if len(numbers) == 1 else "a study's trials"
        lines.append(
            f"tuned: best of {trials} by {titles} on tune, retrained on fresh seeds; default: trial 0, the values that"
            " the study starts from; tuning: total time of all trials, training and evaluation"
        )
    elif any(row["variant"].startswith("default") for row in rows):
        lines.append("default: trial 0 of a tuning study, the values that it starts from")
    if any("found (" in row["variant"] for row in rows):
        lines.append(
            f"found (...): chosen by a race of so many strategies, with so many settings in trial, by {titles} on tune;"
            " trained again on fresh seeds"
        )
    if any(to_tuned(row) for row in rows):
        lines.append(
            "(tuned): difference, gap and time are relative to the ce row tuned on the same budget, over the same"
            " keys of the recipe; other rows are compared with the default ce"
        )
    lines += [
        f"{pruner_text(pruner)}: stopped weak trials early, which can penalise strategies that start slowly"
        for pruner in sorted({row["pruner"] for row in tuned} - {"none"})
    ]
    return lines


def more_notes(board: Board) -> list[str]:
    """How the numbers of the second tables were made."""
    explained = {
        measure.name: f"{measure.title}: {measure.note}"
        for main in board.ranked_by
        for measure in extra_measures(main, board.measures, "more")
        if measure.note
    }
    return [
        f"{_titles(board)} interval: 95% t interval over the finished seeds; p: two-sided paired t test, Holm-corrected"
        " for the number of rows of the pair; vs soft: as vs ce, with its 95% paired t interval",
        "; ".join([*explained.values(), "time, range: lowest and highest ratio of the seeds"]),
    ]


def _titles(board: Board) -> str:
    return " or ".join(main.title for main in board.ranked_by)


def _common(rows: Sequence[RowValues], name: str) -> Any:
    """The value that all rows share, rows without it left out; None where they differ or none has it."""
    found = {row[name] for row in rows if row[name] is not None}
    return found.pop() if len(found) == 1 else None


def _weights(rows: Sequence[RowValues]) -> str:
    words = {"trained": "trained here", "finetuned": "fine-tuned here", "file": "weights from a file"}
    weights = str(rows[0]["teacher_weights"]).removesuffix(f", {VOUCHED}")
    vouched = ", not above chance, accepted by --trust-teacher" if any(map(was_vouched, rows)) else ""
    return " and ".join(words.get(each, each) for each in weights.split("+")) + vouched


def _ranges(seeds: Sequence[int]) -> str:
    """Ascending numbers with runs drawn together: ``0-2, 5``."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
