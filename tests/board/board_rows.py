"""The rows of a board, to look them up by name."""

from __future__ import annotations

from typing import Any

import pandas as pd

from kdzoo.board.table import Board


def by_variant(board: Board) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows in their order, by strategy and variant; None for what is missing."""
    rows = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in board.frame.to_dict("records")
    ]
    found = {(str(row["strategy"]), str(row["variant"])): row for row in rows}
    assert len(found) == len(rows)
    return found
