"""A board as CSV and JSON: every column of the frame with full precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from kdzoo.board.columns import BY_NAME, COLUMNS
from kdzoo.board.display import Table, notes
from kdzoo.board.escape import csv_cell
from kdzoo.board.more import NOTES
from kdzoo.board.overall import Overall, overall
from kdzoo.board.overall_text import overall_notes, section
from kdzoo.board.table import Board
from kdzoo.cell import canonical_json

BOARD_SCHEMA = 1
"""Version of the JSON form."""


def to_csv(board: Board, printed: Sequence[Table], width: int) -> str:
    """One line a row; an empty cell where there is no value. No text is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(BY_NAME)
    cells_of = itemgetter(*BY_NAME)
    texts = [place for place, column in enumerate(COLUMNS) if column.kind == "text"]
    for table in printed:
        for row in table.rows:
            cells = list(cells_of(row))
            for place in texts:
                cells[place] = _csv_text(cells[place])
            writer.writerow(cells)
    return text.getvalue()


def to_json(board: Board, printed: Sequence[Table], width: int) -> str:
    """What the columns mean, the groups with their rows and problems, and what is true over their pairs.

    null where there is no value. Texts are as they are in the records.
    Each row has a line of its own, so that a published board's changes can be read.
    """
    groups = ",\n".join(_json_group(table) for table in printed)
    overalls = overall(board)
    method = json.dumps([*notes(board, printed, "bold"), *NOTES, *overall_notes(overalls, "bold")], indent=1)
    columns = json.dumps({column.name: column.help for column in COLUMNS}, indent=1)
    summaries = ",\n".join(_json_overall(one) for one in overalls)
    return (
        f'{{"board_schema": {BOARD_SCHEMA},\n"notes": {method},\n"columns": {columns},\n"groups": [\n{groups}\n],\n'
        f'"overall": [\n{summaries}\n]}}\n'
    )


def _json_group(table: Table) -> str:
    head = json.dumps({**asdict(table.group), "problems": [asdict(problem) for problem in table.problems]})
    rows = [json.dumps({**row, "records": row["records"].split()}, allow_nan=False) for row in table.rows]
    return f'{head[:-1]}, "rows": [\n' + ",\n".join(rows) + "\n]}"


def _json_overall(one: Overall) -> str:
    words = section(one)
    head = json.dumps(
        {
            "title": words.title,
            "protocol": one.protocol,
            "evaluation": one.evaluation,
            "rows": one.kind,
            "pairs": [asdict(block) for block in one.blocks],
            "friedman": asdict(one.friedman),
            "critical_difference": one.critical_difference,
            "alike": one.alike,
            "findings": words.findings,
        },
        allow_nan=False,
    )
    standings = [json.dumps(asdict(standing), allow_nan=False) for standing in one.standings]
    return f'{head[:-1]}, "standings": [\n' + ",\n".join(standings) + "\n]}"


def _csv_text(value: Any) -> str | None:
    if isinstance(value, str):
        return csv_cell(value)
    return None if value is None else canonical_json(value)
