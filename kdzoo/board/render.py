"""Records -> the text of a board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kdzoo.board.columns import sort_column
from kdzoo.board.data import to_csv, to_json
from kdzoo.board.display import Table, tables
from kdzoo.board.markup import to_latex, to_markdown
from kdzoo.board.table import Board, make_board
from kdzoo.board.terminal import to_terminal
from kdzoo.cell import Cell
from kdzoo.errors import UsageError, unknown
from kdzoo.record import Record

FORMATS: dict[str, Callable[[Board, Sequence[Table], int], str]] = {
    "table": to_terminal,
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
}


def board_text(
    records: Iterable[Record],
    planned: Iterable[Cell] = (),
    *,
    format: str = "table",
    sort: str = "rank",
    by: str = "pair",
    width: int = 120,
) -> str:
    """A board, ready to print. The same records give the same bytes, whatever their order.

    Args:
        records, planned, by: as :func:`kdzoo.board.table.make_board` takes them.
        format: ``table`` for a terminal, ``md``, ``csv``, ``json`` or ``latex``.
        sort: a column of the frame, best first; ``-column`` turns the order round.
        width: columns that a terminal's table may take, where that is possible.

    Raises:
        UsageError: an unknown format, column or grouping.
    """
    if format not in FORMATS:
        raise UsageError(unknown("board format", format, FORMATS))
    sort_column(sort)
    board = make_board(records, planned, by=by)
    return FORMATS[format](board, tables(board, sort), width)
