"""A board as plain text for a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from kdzoo.board.display import Table, foot, heading, notes, problem_text
from kdzoo.board.overall_text import OverallText, overall_notes, overall_text
from kdzoo.board.printed import INTERVAL, PrintedColumn, RowValues
from kdzoo.board.table import Board
from kdzoo.foreign import printable

_GAP = "  "

_LONGEST_LIST = 5_000
"""The same for a list of names."""

_LEAST = ({"strategy": 18, "teacher": 11, "student": 11}, {"seeds": 15, "tuning": 9}, {INTERVAL: 10})
"""The columns that are folded to fit the terminal, first to last, and the width that is left to it."""


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
    blocks = [_table(table, width) for table in printed] + [
        _overall(overall_text(one), width) for one in board.overalls
    ]
    method = [*notes(board, printed, "*"), *overall_notes(board.overalls, "*")] if explain else foot(board)
    below = (lines for lines in (board.remarks, method) if lines)
    return "\n\n\n".join([*blocks, *("\n".join(folded(line, width, 2) for line in lines) for lines in below)]) + "\n"


def _table(table: Table, width: int) -> str:
    lines = [folded(table.group.full_title, width, 2)]
    lines += [folded(f"  {word:<9}{text}", width, 11) for word, text in heading(table)]
    lines += ["", grid(table.columns, table.rows, width), ""]
    for problem in table.problems:
        text = problem_text(problem, with_pair=len(table.same) < 2)
        lines.append(folded(f"{problem.kind:<9}{text}", width, 9))
    return "\n".join(lines).rstrip("\n")


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
