"""What a page shows: one section for each table of the board, its charts, and the diagrams of ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdzoo.board.display import Table, Values, heading, millions, number, problem_text, title
from kdzoo.board.escape import safe_url
from kdzoo.board.overall import Overall
from kdzoo.board.overall_text import section as overall_words
from kdzoo.foreign import visible
from kdzoo.leaderboard.charts.accuracy import accuracy_chart
from kdzoo.leaderboard.charts.forest import forest_chart
from kdzoo.leaderboard.charts.parts import Chart
from kdzoo.leaderboard.charts.points import Point, pair_text, points
from kdzoo.leaderboard.charts.ranking import rank_chart
from kdzoo.leaderboard.page.columns import Cell, TableColumn, columns_of
from kdzoo.leaderboard.page.details import Detail, Details

_NEEDS = {"accuracy": ("top1", "parameters"), "forest": ("diff",)}
"""The values without which a chart does not show a row."""


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        place: among all rows of the section.
        cells: one a column.
        settings: all parameters, in words.
        variant: as on the board.
        bold: whether the interval of its difference excludes 0.
        url: the page that tells more of it; empty where this page does.
    """

    place: int
    cells: list[Cell]
    settings: str
    variant: str
    bold: bool
    url: str


@dataclass(frozen=True)
class Pair:
    """The lines of one pair, which are ranked among themselves.

    Attributes:
        heading: teacher, student and sizes; empty where the section has no other pair.
        lines: best first.
    """

    heading: str
    lines: list[Line]


@dataclass(frozen=True)
class Section:
    """One table of a board with all that belongs to it; every text is visible, none is escaped.

    Attributes:
        title: its heading.
        heading: (word, text) of what is true of all its rows.
        columns, pairs: the table.
        points: the rows as charts and filters see them.
        charts: name -> chart.
        problems: (kind, text) of seeds without a result.
        details: what is told of a row when it is chosen; None where the page does not.
    """

    title: str
    heading: list[tuple[str, str]]
    columns: list[TableColumn]
    pairs: list[Pair]
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
    """Ranks over pairs, with the words that belong to them.

    Attributes:
        headers: (header, whether the column leans to the right).
        rows: (whether it is bold, its cells).
    """

    title: str
    headers: list[tuple[str, bool]]
    rows: list[tuple[bool, list[str]]]
    chart: Chart | None
    pairs: list[str]
    lacking: list[str]
    findings: list[str]


def section(table: Table, details: Details | None, pages: Mapping[str, str] | None) -> Section:
    """The section of one table.

    Args:
        table: the table.
        details: tells of rows, if the page does.
        pages: dataset -> URL of the page that does.
    """
    rows = table.rows
    columns = columns_of(rows)
    found = points(rows)
    pairs = _by_pair(rows)
    charts = {"accuracy": accuracy_chart(rows), "forest": forest_chart(rows)}

    def line(place: int, row: Values) -> Line:
        point = found[place]
        url = safe_url((pages or {}).get(row["dataset"], ""))
        cells = [column.cell(row) for column in columns]
        return Line(place, cells, point["settings"], point["variant"], bool(row["bold"]), url)

    return Section(
        title=visible(title(table.group)),
        heading=[(word, visible(text)) for word, text in [*heading(table), *_family(rows)]],
        columns=columns,
        pairs=[
            Pair(
                _pair_heading(next(iter(pair.values()))) if len(pairs) > 1 else "",
                [line(place, row) for place, row in pair.items()],
            )
            for pair in pairs
        ],
        points=found,
        charts={name: chart for name, chart in charts.items() if chart is not None},
        problems=[
            (problem.kind, visible(problem_text(problem, with_pair=len(table.same) < 2))) for problem in table.problems
        ],
        details=None if details is None else [details.of(row) for row in rows],
    )


def _by_pair(rows: Sequence[Values]) -> list[dict[int, Values]]:
    """The rows of each pair by their places, ranked among themselves; the smallest student first."""
    found: dict[tuple[str, str], dict[int, Values]] = defaultdict(dict)
    for place, row in enumerate(rows):
        found[row["teacher"], row["student"]][place] = row
    ranked = [
        {place: row | {"rank": _rank_within(row, pair.values())} for place, row in pair.items()}
        for pair in found.values()
    ]
    return sorted(ranked, key=lambda pair: min((_size(row), pair_text(row)) for row in pair.values()))


def _rank_within(row: Values, pair: Iterable[Values]) -> int | None:
    if row["rank"] is None:
        return None
    better = [one for one in pair if one["rank"] is not None and one["rank"] < row["rank"]]
    return len(better) + 1


def _size(row: Values) -> float:
    return row["student_parameters"] or float("inf")


def _pair_heading(row: Values) -> str:
    smaller = "" if row["compression"] is None else f", {number(row['compression'], 1)}x smaller than the teacher"
    return f"{pair_text(row)}: {millions(row['student_parameters'])} parameters{smaller}"


def _family(rows: Sequence[Values]) -> list[tuple[str, str]]:
    """The family that all rows share, for which the table has no column."""
    families = {row["family"] for row in rows}
    return [("family", family) for family in families if family] if len(families) == 1 else []


def ranking(overall: Overall) -> Ranking:
    """The ranks of a board over its pairs."""
    words = overall_words(overall)
    return Ranking(
        title=visible(words.title),
        headers=[(column.header, column.align == "right") for column in words.columns],
        rows=[(bool(row["bold"]), [visible(column.text(row)) for column in words.columns]) for row in words.rows],
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
