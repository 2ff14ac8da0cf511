"""The columns of a page's table: what a cell shows, and by which value its column is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kdzoo.board.columns import BY_NAME
from kdzoo.board.display import NONE, interval_text, number, percent, seeds_text
from kdzoo.board.more import gap_text, p_text, range_text, soft_text, times_text
from kdzoo.foreign import visible
from kdzoo.leaderboard.charts.points import Row


class Cell(NamedTuple):
    """What a cell shows, and its value for sorting; an empty value stands last, whichever way it is sorted."""

    text: str
    value: str


@dataclass(frozen=True)
class TableColumn:
    """A column of the page's table.

    Args:
        name: the column of the frame by whose values it is sorted.
        header: its header.
        show: the words of a row.
        told: what it says, where the page's values are not the frame's.
    """

    name: str
    header: str
    show: Callable[[dict[str, Any]], str]
    told: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, which lean to the right."""
        return BY_NAME[self.name].kind in ("integer", "number")

    @property
    def descending(self) -> bool:
        """Whether the highest value comes first when it is sorted for the first time."""
        return BY_NAME[self.name].high

    @property
    def help(self) -> str:
        """What it says, with the unit."""
        return self.told or BY_NAME[self.name].help

    def cell(self, row: Row) -> Cell:
        """The cell of a row."""
        value = row[self.name]
        return Cell(visible(self.show(dict(row))), "" if value is None else visible(str(value)))


def _text(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: str(row[name]) or NONE


def _number(name: str, digits: int = 2, *, sign: bool = False, unit: str = "") -> Callable[[dict[str, Any]], str]:
    return lambda row: number(row[name], digits, sign=sign, unit=unit)


def _trials(row: dict[str, Any]) -> str:
    if row["trials"] is None:
        return NONE
    return f"{row['trials']}" + (f" ({row['tune_settings']})" if row["tune_settings"] else "")


_COLUMNS = (
    TableColumn(
        "rank",
        "#",
        lambda row: NONE if row["rank"] is None else str(row["rank"]),
        "place by top1 within the pair; ties share one",
    ),
    TableColumn("strategy", "strategy", _text("strategy")),
    TableColumn("top1", "top-1 %", _number("top1")),
    TableColumn("top1_sd", "sd", _number("top1_sd")),
    TableColumn("diff_ce", "vs ce", _number("diff_ce", sign=True)),
    TableColumn("diff_ce_low", "95% interval", interval_text),
    TableColumn("diff_ce_p_holm", "p (Holm)", lambda row: p_text(row["diff_ce_p_holm"])),
    TableColumn("done", "seeds", seeds_text),
    TableColumn("family", "family", _text("family")),
    TableColumn("diff_soft", "vs soft", _number("diff_soft", sign=True)),
    TableColumn("gap_recovered", "gap", percent("gap_recovered", 0)),
    TableColumn("retention", "retention", percent("retention", 1)),
    TableColumn("agreement", "agreement", _number("agreement", unit="%")),
    TableColumn("ece", "ECE %", _number("ece")),
    TableColumn("time_vs_ce", "time, range", times_text),
    TableColumn("trials", "trials", _trials),
    TableColumn("tuning_seconds", "tuning s", _number("tuning_seconds", 0)),
    TableColumn("top1_low", "top-1 95% interval", lambda row: range_text(row, "top1")),
    TableColumn("gap_recovered_low", "gap 95% interval (bootstrap-t)", gap_text),
    TableColumn("diff_soft_low", "vs soft 95% interval", soft_text),
    TableColumn("diff_soft_p_holm", "vs soft p (Holm)", lambda row: p_text(row["diff_soft_p_holm"])),
)

_ALWAYS = {"rank", "strategy", "top1", "diff_ce", "diff_ce_low"}
HOLM = "diff_ce_p_holm"


def columns_of(rows: Sequence[Row]) -> list[TableColumn]:
    """The columns that say something about these rows; the headings say what rows of one pair share.

    Args:
        rows: of one group.
    """
    return [
        column
        for column in _COLUMNS
        if column.name in _ALWAYS
        or (_families(rows) > 1 if column.name == "family" else any(row[column.name] not in (None, "") for row in rows))
    ]


def _families(rows: Sequence[Row]) -> int:
    return len({row["family"] for row in rows})
