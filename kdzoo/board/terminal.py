"""A board as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tabulate import tabulate

from kdzoo.board.display import (
    INTERVAL,
    SEEDS,
    SHOWN,
    STRATEGY,
    STUDENT,
    TEACHER,
    Shown,
    Table,
    Values,
    heading,
    notes,
    problem_text,
    title,
)
from kdzoo.board.escape import shorten, visible
from kdzoo.board.table import Board

_GAP = "  "
_LONGEST = 500
"""Characters of a name or a reason that a terminal shows; the other formats show all."""

_LEAST = ({STRATEGY: 18, TEACHER: 11, STUDENT: 11}, {SEEDS: 10}, {INTERVAL: 10})
"""What is folded to fit the terminal, first to last, and the width that is left to it."""


def to_terminal(board: Board, printed: Sequence[Table], width: int) -> str:
    """One table for each group. What all its rows share stands in the heading; a row whose interval excludes 0 has a
    star."""
    if not printed:
        return "no cells yet\n"
    blocks = []
    for table in printed:
        lines = [_folded(_plain(title(table.group)), width, 2)]
        lines += [_folded(f"  {word:<9}{_plain(text)}", width, 11) for word, text in heading(table)]
        lines += ["", _grid(table, width), ""]
        for problem in table.problems:
            text = problem_text(problem, with_pair=len(table.same) < 2)
            lines.append(_folded(f"{problem.kind:<9}{_plain(text)}", width, 9))
        blocks.append("\n".join(lines).rstrip("\n"))
    method = "\n".join(_folded(_plain(note), width, 2) for note in notes(board, printed, "*"))
    return "\n\n\n".join([*blocks, method]) + "\n"


def _grid(table: Table, width: int) -> str:
    columns = [column for column in SHOWN if column.header not in table.same]
    cells = [[_cell(column, row) for column in columns] for row in table.rows]
    widths = [max(len(column.header), *(len(row[place]) for row in cells)) for place, column in enumerate(columns)]
    _fit(columns, widths, width)
    for row in cells:
        for place, room in enumerate(widths):
            if len(row[place]) > room:
                row[place] = "\n".join(textwrap.wrap(row[place], room, subsequent_indent=" ", break_on_hyphens=False))
    # The headers go in as rows, because tabulate makes a header's column two wider than its words.
    headers = [[column.header for column in columns], ["-" * room for room in widths]]
    text = tabulate(
        headers + cells, tablefmt="plain", colalign=[column.align for column in columns], disable_numparse=True
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def _cell(column: Shown, row: Values) -> str:
    star = " *" if column is INTERVAL and row["bold"] else ""
    return _plain(column.text(row)) + star


def _fit(columns: Sequence[Shown], widths: list[int], width: int) -> None:
    """Take from the widest of the columns that may be folded until the line fits or nothing is left to take."""
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - width
    for least in _LEAST:
        while excess > 0:
            spare = [place for place, column in enumerate(columns) if widths[place] > least.get(column, widths[place])]
            if not spare:
                break
            widest = max(spare, key=lambda place: widths[place])
            widths[widest] -= 1
            excess -= 1


def _plain(text: str) -> str:
    return shorten(visible(text), _LONGEST)


def _folded(line: str, width: int, indent: int) -> str:
    """The line, folded between words; what follows its first line is set in by ``indent``."""
    lead = len(line) - len(line.lstrip())
    return textwrap.fill(
        line.lstrip(), width, initial_indent=" " * lead, subsequent_indent=" " * indent, break_on_hyphens=False
    )
