"""The columns of a page's table: what a cell shows, and by which value its column is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kdzoo.board.columns import BY_NAME
from kdzoo.board.display import NONE, interval_text, millions, number, percent, seeds_text
from kdzoo.board.escape import visible
from kdzoo.leaderboard.points import Row


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
    """

    name: str
    header: str
    show: Callable[[dict[str, Any]], str]

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
        return BY_NAME[self.name].help

    def cell(self, row: Row) -> Cell:
        """The cell of a row."""
        value = row[self.name]
        return Cell(visible(self.show(dict(row))), "" if value is None else visible(str(value)))


def _text(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: str(row[name]) or NONE


def _number(name: str, digits: int = 2, *, sign: bool = False, unit: str = "") -> Callable[[dict[str, Any]], str]:
    return lambda row: number(row[name], digits, sign=sign, unit=unit)


def _own_interval(row: dict[str, Any]) -> str:
    if row["top1_low"] is None:
        return row["top1_note"] or NONE
    return f"[{number(row['top1_low'])}, {number(row['top1_high'])}]"


def _p_value(row: dict[str, Any]) -> str:
    value = row["diff_ce_p_holm"]
    if value is None:
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


_COLUMNS = (
    TableColumn("rank", "#", lambda row: NONE if row["rank"] is None else str(row["rank"])),
    TableColumn("strategy", "strategy", _text("strategy")),
    TableColumn("dataset", "dataset", lambda row: f"{row['dataset']} {row['img_size']}"),
    TableColumn("family", "family", _text("family")),
    TableColumn("teacher", "teacher", _text("teacher")),
    TableColumn("student", "student", _text("student")),
    TableColumn("student_parameters", "params", lambda row: millions(row["student_parameters"])),
    TableColumn("compression", "smaller", _number("compression", 1, unit="x")),
    TableColumn("done", "seeds", seeds_text),
    TableColumn("top1", "top-1 %", _number("top1")),
    TableColumn("top1_sd", "sd", _number("top1_sd")),
    TableColumn("top1_low", "95% interval", _own_interval),
    TableColumn("diff_ce", "vs ce", _number("diff_ce", sign=True)),
    TableColumn("diff_ce_low", "its 95% interval", interval_text),
    TableColumn("diff_ce_p_holm", "p", _p_value),
    TableColumn("diff_soft", "vs soft", _number("diff_soft", sign=True)),
    TableColumn("gap_recovered", "gap", percent("gap_recovered", 0)),
    TableColumn("retention", "retention", percent("retention", 1)),
    TableColumn("agreement", "agreement", _number("agreement", unit="%")),
    TableColumn("ece", "ECE %", _number("ece")),
    TableColumn("time_vs_ce", "time", _number("time_vs_ce", unit="x")),
    TableColumn("trials", "trials", lambda row: NONE if row["trials"] is None else str(row["trials"])),
    TableColumn("tuning_seconds", "tuning s", _number("tuning_seconds", 0)),
)

_ALWAYS = {"rank", "strategy", "teacher", "student", "top1", "diff_ce", "diff_ce_low"}
STRATEGY = "strategy"


def columns_of(rows: Sequence[Row], datasets: int) -> list[TableColumn]:
    """The columns that say something about these rows.

    Args:
        rows: of one group.
        datasets: how many there are on the page.
    """
    return [
        column
        for column in _COLUMNS
        if column.name in _ALWAYS
        or (datasets > 1 if column.name == "dataset" else any(row[column.name] not in (None, "") for row in rows))
    ]
