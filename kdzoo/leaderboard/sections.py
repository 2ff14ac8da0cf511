"""What a page shows: one section for each table of the board, its charts, and the diagrams of ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdzoo.board.display import Table, heading, problem_text, title
from kdzoo.board.escape import visible
from kdzoo.board.overall import Overall
from kdzoo.board.overall_text import section as overall_words
from kdzoo.leaderboard.charts import Chart, accuracy_chart, forest_chart, rank_chart
from kdzoo.leaderboard.details import Detail, Details
from kdzoo.leaderboard.links import safe_url
from kdzoo.leaderboard.points import Point, points
from kdzoo.leaderboard.tablecolumns import Cell, TableColumn, columns_of

_NEEDS = {"accuracy": ("top1", "parameters"), "forest": ("diff",)}
"""The values without which a chart does not show a row."""


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        cells: one a column.
        settings: all parameters, in words.
        variant: as on the board.
        bold: whether the interval of its difference excludes 0.
        url: the page that tells more of it; empty where this page does.
    """

    cells: list[Cell]
    settings: str
    variant: str
    bold: bool
    url: str


@dataclass(frozen=True)
class Section:
    """One table of a board with all that belongs to it; every text is visible, none is escaped.

    Attributes:
        title: its heading.
        heading: (word, text) of what is true of all its rows.
        columns, lines: the table.
        points: the rows as charts and filters see them.
        charts: name -> chart.
        problems: (kind, text) of seeds without a result.
        details: what is told of a row when it is chosen; None where the page does not.
    """

    title: str
    heading: list[tuple[str, str]]
    columns: list[TableColumn]
    lines: list[Line]
    points: list[Point]
    charts: dict[str, Chart]
    problems: list[tuple[str, str]]
    details: list[Detail] | None

    def data(self) -> dict[str, Any]:
        """What the page's script needs: charts without their data, which follow once, by column."""
        fields = list(self.points[0]) if self.points else []
        return {
            "charts": [
                {"name": name, "needs": _NEEDS[name], "spec": bare(chart)} for name, chart in self.charts.items()
            ],
            "fields": fields,
            "points": [[point[field] for field in fields] for point in self.points],
            "details": self.details,
        }


@dataclass(frozen=True)
class Ranking:
    """Ranks over pairs, with the words that belong to them."""

    title: str
    chart: Chart | None
    pairs: list[str]
    lacking: list[str]
    findings: list[str]


def section(table: Table, datasets: int, details: Details | None, pages: Mapping[str, str] | None) -> Section:
    """The section of one table.

    Args:
        table: the table.
        datasets: how many datasets the page has.
        details: tells of rows, if the page does.
        pages: dataset -> URL of the page that does.
    """
    rows = table.rows
    columns = columns_of(rows, datasets)
    found = points(rows)
    charts = {"accuracy": accuracy_chart(rows), "forest": forest_chart(rows)}
    return Section(
        title=visible(title(table.group)),
        heading=[(word, visible(text)) for word, text in heading(table)],
        columns=columns,
        lines=[
            Line(
                cells=[column.cell(row) for column in columns],
                settings=point["settings"],
                variant=point["variant"],
                bold=bool(row["bold"]),
                url=safe_url((pages or {}).get(row["dataset"], "")),
            )
            for row, point in zip(rows, found, strict=True)
        ],
        points=found,
        charts={name: chart for name, chart in charts.items() if chart is not None},
        problems=[
            (problem.kind, visible(problem_text(problem, with_pair=len(table.same) < 2))) for problem in table.problems
        ],
        details=None if details is None else [details.of(row) for row in rows],
    )


def ranking(overall: Overall) -> Ranking:
    """The ranks of a board over its pairs."""
    words = overall_words(overall)
    return Ranking(
        title=visible(words.title),
        chart=rank_chart(overall),
        pairs=[visible(text) for text in words.pairs],
        lacking=[visible(text) for text in words.lacking],
        findings=[visible(text) for text in words.findings],
    )


def bare(chart: Chart) -> Chart:
    """A chart without its rows and its title, which a page shows as text."""
    return {key: value for key, value in chart.items() if key != "title"} | {"data": {"name": chart["data"]["name"]}}


def caption(chart: Chart) -> str:
    """What a chart says under its title."""
    words: str | Sequence[str] = chart.get("title", {}).get("subtitle", "")
    return words if isinstance(words, str) else " ".join(words)


def choices(sections: Iterable[Section]) -> dict[str, list[str]]:
    """What each filter offers: the values that occur, where there are several."""
    everyone = [point for one in sections for point in one.points]
    found = {name: sorted({point[name] for point in everyone}) for name in ("dataset", "pair", "family", "searched")}
    return {name: values if len(values) > 1 else [] for name, values in found.items()}
