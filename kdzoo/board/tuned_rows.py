"""What a printed board explains of its tuned rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdzoo.board.tuning import pruner_text
from kdzoo.errors import counted


def to_tuned(row: dict[str, Any]) -> bool:
    """Whether the row is compared with a ``ce`` row that was tuned."""
    return bool(row["diff_ce_to_variant"].startswith("tuned") and row["diff_ce_n"])


def tuning_notes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How the tuned rows were made and compared; nothing where no study concerns a row.

    Args:
        rows: all rows of a board, by column.
    """
    lines = []
    tuned = [row for row in rows if row["trials"] is not None]
    if tuned:
        numbers = {row["trials"] for row in tuned}
        trials = counted(numbers.pop(), "trial") if len(numbers) == 1 else "a study's trials"
        lines.append(
            f"tuned: best of {trials} by top-1 on tune, trained again on fresh seeds; default: trial 0, the values that"
            " the study began with; tuning: what all its trials took, seconds of training and evaluation"
        )
    elif any(row["variant"] for row in rows):
        lines.append("default: trial 0 of a study of tuning, the values that it began with")
    if any(to_tuned(row) for row in rows):
        lines.append(
            "(tuned): difference, gap and time are to the ce row that was tuned on the same budget, over the same"
            " keys of the recipe; those of the other rows are to ce as it is by default"
        )
    lines += [
        f"{pruner_text(pruner)}: ended trials early that fell behind, which can cost a strategy that starts slowly"
        for pruner in sorted({row["pruner"] for row in tuned} - {"none"})
    ]
    return lines
