"""Records -> the text of a board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from kdzoo.board.display import Table, tables
from kdzoo.board.exports import to_csv, to_json, to_latex, to_markdown
from kdzoo.board.power import checked_points, to_power
from kdzoo.board.rows import SeedResult
from kdzoo.board.table import Board, make_board
from kdzoo.board.terminal import to_terminal
from kdzoo.board.titles import checked_grouping
from kdzoo.cell import Cell
from kdzoo.errors import UsageError, unknown
from kdzoo.record import Record
from kdzoo.study import Study

FORMATS: dict[str, Callable[[Board, Sequence[Table], int], str]] = {
    "table": to_terminal,
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
}


def check_request(*, format: str = "table", by: str = "pair", points: float | None = None) -> None:
    """Refuse what no board can be printed by, before anything is read for it.

    Args:
        format, by: as :func:`board_text` takes them.
        points: as :func:`power_text` takes them, if it is asked.

    Raises:
        UsageError: an unknown format or grouping, or points that are not above 0 and finite.
    """
    if format not in FORMATS:
        raise UsageError(unknown("board format", format, FORMATS))
    checked_grouping(by)
    if points is not None:
        checked_points(points)


def board_text(
    records: Iterable[Record | SeedResult],
    planned: Iterable[Cell] = (),
    studies: Iterable[Study] = (),
    *,
    format: str = "table",
    sort: str = "rank",
    by: str = "pair",
    width: int = 120,
    explain: bool = False,
) -> str:
    """A board, ready to print. The same records give the same bytes, whatever their order.

    Args:
        records, planned, studies, by: as :func:`kdzoo.board.table.make_board` takes them.
        format: ``table`` for a terminal, ``md``, ``csv``, ``json`` or ``latex``.
        sort: a column of the frame, best first; ``-column`` turns the order round.
        width: columns that a terminal's table may take, where that is possible.
        explain: whether a terminal's table has the full notes; the other formats always have them.

    Raises:
        UsageError: as :func:`check_request`, or an unknown column.
    """
    check_request(format=format, by=by)
    board = make_board(records, planned, studies, by=by)
    printed = tables(board, sort)
    if explain and format == "table":
        return to_terminal(board, printed, width, explain=True)
    return FORMATS[format](board, printed, width)


def power_text(
    records: Iterable[Record | SeedResult],
    planned: Iterable[Cell] = (),
    studies: Iterable[Study] = (),
    *,
    points: float,
    sort: str = "rank",
    by: str = "pair",
    width: int = 120,
) -> str:
    """How many seeds detect a difference to ``ce``, given the spread seen so far, for a terminal.

    Args:
        records, planned, studies, by: as :func:`kdzoo.board.table.make_board` takes them.
        points: the difference, in points where the measure that ranks is a percentage.
        sort, width: as :func:`board_text` takes them.

    Raises:
        UsageError: as :func:`check_request`, or an unknown column.
    """
    check_request(by=by, points=points)
    board = make_board(records, planned, studies, by=by)
    return to_power(tables(board, sort), points, width)
