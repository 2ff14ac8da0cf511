"""A board as plain text for a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from kdzoo.board.display import Table, foot, heading, notes, problem_text
from kdzoo.board.intervals import wilson_low
from kdzoo.board.labels import Facts
from kdzoo.board.overall_text import OverallText, overall_notes, overall_text
from kdzoo.board.printed import INTERVAL, NONE, PrintedColumn, RowValues, score_text
from kdzoo.board.table import Board
from kdzoo.errors import counted
from kdzoo.foreign import printable
from kdzoo.measures import Measure

_GAP = "  "

_LONGEST_LIST = 5_000
"""The same for a list of names."""

_LEAST = ({"strategy": 18, "teacher": 11, "student": 11}, {"seeds": 15, "tuning": 9}, {INTERVAL: 10})
"""The columns that are folded to fit the terminal, first to last, and the width that is left to it."""


_FEW_STEPS = 1000
"""Steps of a training below which a board without a gain calls it short."""

_PAPERS = "32x32"
"""The images for whose maps most papers chose their weights: CIFAR's."""

_WIDTH = 120
"""Columns where no terminal says another number: in a file, a pipe, a page of documentation."""


def to_terminal(board: Board, printed: Sequence[Table], width: int, *, explain: bool = False) -> str:
    """One table for each group. What all its rows share is in the heading; a star marks an interval that excludes 0.

    Args:
        board: the board.
        printed: its tables.
        width: columns that a table may take, where that is possible.
        explain: whether the full notes are printed under the board, in place of its foot.
    """
    if not printed:
        return "no cells yet\n"
    blocks = [_table(table, board.contexts[table.group.number], width) for table in printed] + [
        _overall(overall_text(one), width) for one in board.overalls
    ]
    method = [*_all_notes(board, printed), *overall_notes(board.overalls, "*")] if explain else foot(board)
    below = (lines for lines in (board.remarks, method) if lines)
    return "\n\n\n".join([*blocks, *("\n".join(folded(line, width, 2) for line in lines) for lines in below)]) + "\n"


def _all_notes(board: Board, printed: Sequence[Table]) -> list[str]:
    """The full notes, with what only a terminal leaves out."""
    lines = notes(board, printed, "*")
    if any(
        _lead_may_be_chance(row, table.main, _samples(board.contexts[table.group.number]))
        for table in printed
        for row in table.rows
    ):
        lines.append(
            f"gap {NONE}: the teacher is above ce by so little that it may be chance: ce is not below the 95% interval"
            " (Wilson) of the teacher's score on the test samples; other formats show the share"
        )
    return lines


def _table(table: Table, facts: Facts, width: int) -> str:
    lines = [folded(table.group.full_title, width, 2)]
    lines += [folded(f"  {word:<9}{text}", width, 11) for word, text in heading(table)]
    rows = [
        row | {"gap_recovered": None} if _lead_may_be_chance(row, table.main, _samples(facts)) else row
        for row in table.rows
    ]
    lines += ["", grid(table.columns, rows, width), ""]
    for problem in table.problems:
        text = problem_text(problem, with_pair=len(table.same) < 2)
        lines.append(folded(f"{problem.kind:<9}{text}", width, 9))
    if reasons := _no_gain(table, facts):
        lines.append(folded(f"{'no gain':<9}{'; '.join(reasons)}", width, 9))
    return "\n".join(lines).rstrip("\n")


def _samples(facts: Facts) -> int:
    return int(facts["data.test"])


def _lead_may_be_chance(row: RowValues, main: Measure, samples: int) -> bool:
    """Whether the teacher is above ``ce`` by no more than its own score may be off on so many test samples."""
    teacher, score = row[main.on("teacher")], row[main.name]
    if teacher is None or score is None or not main.counted:
        return False
    student = score - (row["diff_ce"] or 0.0)
    return bool(wilson_low(teacher, samples) <= student < teacher)


def _no_gain(table: Table, facts: Facts) -> list[str]:
    """Why no row may be above ``ce``, from the table's own figures; nothing where one is, or nothing is compared."""
    main = table.main
    compared = [row for row in table.rows if row["diff_ce"] is not None]
    baseline = next((row for row in table.rows if row["diff_ce_note"] == "baseline"), None)
    if len(table.same) < 2 or baseline is None or not compared or any(_side(row, main) > 0 for row in compared):
        return []
    reasons = []
    teacher, student = baseline[main.on("teacher")], baseline[main.name]
    epochs, fit, batch = (int(facts[name]) for name in ("recipe.epochs", "data.fit", "recipe.batch_size"))
    steps = epochs * max(1, fit // batch)
    if teacher is not None and main.sign * (teacher - student) <= 0:
        scores = [score_text(score, main, space=" ") for score in (teacher, student)]
        reasons.append(f"the teacher ({scores[0]}) is not above ce ({scores[1]})")
    elif _lead_may_be_chance(baseline, main, _samples(facts)):
        reasons.append(f"the teacher's lead may be chance ({_samples(facts)} test samples)")
    elif steps < _FEW_STEPS:
        reasons.append(f"{counted(epochs, 'epoch')} ({counted(steps, 'step')}) may be too few")
    size = baseline["img_size"]
    lost = [row for row in compared if _side(row, main) < 0 and row["trials"] is None and row["family"] != "response"]
    if lost and size != _PAPERS:
        reasons.append(f"papers' weights are for {_PAPERS} images, not {size} (--tune)")
    return reasons or [f"{counted(baseline['done'], 'seed')} may be too few (--seeds), or the weights unfit (--tune)"]


def _side(row: RowValues, main: Measure) -> int:
    """On which side of ``ce`` a row is, 1 for the better one; 0 where its interval includes 0."""
    low, high = row["diff_ce_low"], row["diff_ce_high"]
    low, high = (row["diff_ce"], row["diff_ce"]) if low is None or high is None else (low, high)
    return main.sign * (int(low > 0) - int(high < 0))


def _overall(words: OverallText, width: int) -> str:
    lines = [folded(words.title, width, 2)]
    room = max(4, len(f"{len(words.pairs)} "))
    lines += [folded(f"  pair {number:<{room}}{pair}", width, 11) for number, pair in enumerate(words.pairs, start=1)]
    lines += ["", grid(words.columns, words.rows, width), ""]
    lines += [folded(f"left out  {reasons}", width, 10, most=_LONGEST_LIST) for reasons in words.lacking]
    lines += [folded(finding, width, 2, most=_LONGEST_LIST) for finding in words.findings]
    return "\n".join(lines)


def grid(columns: Sequence[PrintedColumn], rows: Sequence[RowValues], width: int) -> str:
    """The rows under their headers, folded to the width where that is possible."""
    cells = [[_cell(column, row) for column in columns] for row in rows]
    rooms = [max(len(column.header), *(len(row[place]) for row in cells)) for place, column in enumerate(columns)]
    _fit(columns, rooms, width)
    rules = ["-" * room for room in rooms]
    # A header is not folded, and may be wider than the cells under it.
    widths = [max(room, len(column.header)) for room, column in zip(rooms, columns, strict=True)]
    lines = [_line(columns, widths, texts) for texts in ([column.header for column in columns], rules)]
    for row in cells:
        parts = [_wrapped(text, room) for text, room in zip(row, rooms, strict=True)]
        lines += [_line(columns, widths, texts) for texts in zip_longest(*parts, fillvalue="")]
    return "\n".join(lines)


def _wrapped(text: str, room: int) -> list[str]:
    if len(text) <= room:
        return [text]
    return textwrap.wrap(text, room, subsequent_indent=" ", break_on_hyphens=False)


def _line(columns: Sequence[PrintedColumn], widths: Sequence[int], texts: Sequence[str]) -> str:
    return _GAP.join(
        text.ljust(room) if column.align == "left" else text.rjust(room)
        for column, room, text in zip(columns, widths, texts, strict=True)
    ).rstrip()


def _cell(column: PrintedColumn, row: RowValues) -> str:
    star = " *" if column.header == INTERVAL and row["bold"] else ""
    return printable(column.text(row)) + star


def _fit(columns: Sequence[PrintedColumn], widths: list[int], width: int) -> None:
    """Take from the widest of the columns that may be folded until the line fits or nothing is left to take."""
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - width
    for least in _LEAST:
        while excess > 0:
            limits = [least.get(column.header, widths[place]) for place, column in enumerate(columns)]
            spare = [place for place, limit in enumerate(limits) if widths[place] > limit]
            if not spare:
                break
            widest = max(spare, key=lambda place: widths[place])
            widths[widest] -= 1
            excess -= 1


def folded(line: str, width: int, indent: int, *, most: int = 500) -> str:
    """The line, safe to print and folded between words; what follows its first line is set in by ``indent``."""
    text = printable(line, most)
    if len(text) <= width:
        return text.rstrip()
    lead = len(text) - len(text.lstrip())
    return textwrap.fill(
        text.lstrip(), width, initial_indent=" " * lead, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def output_width() -> int:
    """Columns of the terminal, or what the variable ``COLUMNS`` says, or 120."""
    wished = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (wished.isdecimal() and int(wished) > 0):
        return _WIDTH
    return shutil.get_terminal_size((_WIDTH, 24)).columns
