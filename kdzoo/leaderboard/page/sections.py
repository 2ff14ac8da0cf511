"""What a page shows: one section for each table of the board, its charts, and the diagrams of ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdzoo.board.columns import Column
from kdzoo.board.display import Table, heading, problem_text
from kdzoo.board.overall import Overall
from kdzoo.board.overall_text import overall_text
from kdzoo.board.printed import RowValues, millions, number, page_columns
from kdzoo.foreign import visible
from kdzoo.leaderboard.charts.comparison import forest_chart, rank_chart
from kdzoo.leaderboard.charts.parts import Chart, Point, pair_label, points
from kdzoo.leaderboard.charts.scores import accuracy_chart, curves_chart
from kdzoo.leaderboard.page.details import Detail, Details, safe_url
from kdzoo.measures import Measure


@dataclass(frozen=True)
class PageColumn:
    """A column of the page's table.

    Args:
        column: the column of the frame by whose values it is sorted.
        header: its header.
        text: the words of a row.
        told: what it says, where the page's values are not the frame's.
    """

    column: Column
    header: str
    text: Callable[[RowValues], str]
    own_help: str = ""

    @property
    def name(self) -> str:
        """The frame's name of the column."""
        return self.column.name

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers, which lean to the right."""
        return self.column.kind in ("integer", "number")

    @property
    def descending(self) -> bool:
        """Whether the highest value comes first when it is sorted for the first time."""
        return self.column.high

    @property
    def help(self) -> str:
        """What it says, with the unit."""
        return self.own_help or self.column.help

    def cell(self, row: RowValues) -> dict[str, str]:
        """What the cell of a row shows, and its value for sorting; an empty value stands last, either way."""
        value = row[self.name]
        return {"text": visible(self.text(row)), "value": "" if value is None else visible(str(value))}


@dataclass(frozen=True)
class PageRow:
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
    cells: list[dict[str, str]]
    settings: str
    variant: str
    bold: bool
    url: str


@dataclass(frozen=True)
class PageRows:
    """The lines of one pair, which are ranked among themselves.

    Attributes:
        heading: teacher, student and sizes; empty where the section has no other pair.
        lines: best first.
    """

    heading: str
    lines: list[PageRow]


@dataclass(frozen=True)
class Section:
    """One table of a board with all that belongs to it; every text is visible, none is escaped.

    Attributes:
        title: its heading.
        heading: (word, text) of what is true of all its rows.
        main: the measure that ranks its rows.
        columns, pairs: the table.
        points: the rows as charts and filters see them.
        charts: name -> chart.
        problems: (kind, text) of seeds without a result.
        details: what is told of a row when it is chosen; None where the page does not.
    """

    title: str
    heading: list[tuple[str, str]]
    main: Measure
    columns: list[PageColumn]
    pairs: list[PageRows]
    points: list[Point]
    charts: dict[str, Chart]
    problems: list[tuple[str, str]]
    details: list[Detail] | None

    def data(self) -> dict[str, Any]:
        """What the page's script needs: charts without their data, which follow once, by column."""
        fields = list(self.points[0]) if self.points else []
        needs = {"accuracy": (self.main.name, "parameters"), "forest": ("diff",)}
        return {
            "charts": [
                {"name": name, "needs": needs[name], "spec": bare(drawn)} for name, drawn in self.charts.items()
            ],
            "curves": bare(curves_chart(self.main)),
            "digits": self.main.digits,
            "unit": " %" if self.main.unit == "%" else "",
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


def section(
    table: Table, columns: Sequence[Column], details: Details | None, pages: Mapping[str, str] | None
) -> Section:
    """The section of one table.

    Args:
        table: the table.
        columns: those of the board's frame.
        details: tells of rows, if the page does.
        pages: dataset -> URL of the page that does.
    """
    rows = table.rows
    shown = _columns(table, columns)
    found = points(rows, table.main)
    pairs = _by_pair(rows)
    charts = {"accuracy": accuracy_chart(rows, main=table.main), "forest": forest_chart(rows, main=table.main)}

    def line(place: int, row: RowValues) -> PageRow:
        point = found[place]
        url = safe_url((pages or {}).get(row["dataset"], ""))
        cells = [column.cell(row) for column in shown]
        return PageRow(place, cells, point["settings"], point["variant"], bool(row["bold"]), url)

    return Section(
        title=visible(table.group.full_title),
        main=table.main,
        heading=[(word, visible(text)) for word, text in [*heading(table), *_family(rows)]],
        columns=shown,
        pairs=[
            PageRows(
                _pair_heading(next(iter(pair.values()))) if len(pairs) > 1 else "",
                [line(place, row) for place, row in pair.items()],
            )
            for pair in pairs
        ],
        points=found,
        charts={name: drawn for name, drawn in charts.items() if drawn is not None},
        problems=[
            (problem.kind, visible(problem_text(problem, with_pair=len(table.same) < 2))) for problem in table.problems
        ],
        details=None if details is None else [details.of(row) for row in rows],
    )


def _columns(table: Table, columns: Sequence[Column]) -> list[PageColumn]:
    """The columns that say something about the rows of a table; the headings say what rows of one pair share."""
    main, rows = table.main, table.rows
    by_name = {column.name: column for column in columns}
    own_help = {"rank": f"rank by {main.name} within the pair; ties share a rank"}
    always = {"rank", "strategy", main.name, "diff_ce", "diff_ce_low"}
    return [
        PageColumn(by_name[name], header, text, own_help.get(name, ""))
        for name, header, text in page_columns(main, table.measures)
        if name in always
        or (
            len({row["family"] for row in rows}) > 1
            if name == "family"
            else any(row[name] not in (None, "") for row in rows)
        )
    ]


def _by_pair(rows: Sequence[RowValues]) -> list[dict[int, RowValues]]:
    """The rows of each pair by their places, ranked among themselves; the smallest student first."""
    found: dict[tuple[str, str], dict[int, RowValues]] = defaultdict(dict)
    for place, row in enumerate(rows):
        found[row["teacher"], row["student"]][place] = row
    ranked = [
        {place: row | {"rank": _rank_within(row, pair.values())} for place, row in pair.items()}
        for pair in found.values()
    ]
    return sorted(ranked, key=lambda pair: min((_size(row), pair_label(row)) for row in pair.values()))


def _rank_within(row: RowValues, pair: Iterable[RowValues]) -> int | None:
    if row["rank"] is None:
        return None
    better = [one for one in pair if one["rank"] is not None and one["rank"] < row["rank"]]
    return len(better) + 1


def _size(row: RowValues) -> float:
    return row["student_parameters"] or float("inf")


def _pair_heading(row: RowValues) -> str:
    smaller = "" if row["compression"] is None else f", {number(row['compression'], 1)}x smaller than the teacher"
    return f"{pair_label(row)}: {millions(row['student_parameters'])} parameters{smaller}"


def _family(rows: Sequence[RowValues]) -> list[tuple[str, str]]:
    """The family that all rows share, for which the table has no column."""
    families = {row["family"] for row in rows}
    return [("family", family) for family in families if family] if len(families) == 1 else []


def ranking(overall: Overall) -> Ranking:
    """The ranks of a board over its pairs."""
    words = overall_text(overall)
    return Ranking(
        title=visible(words.title),
        headers=[(column.header, column.align == "right") for column in words.columns],
        rows=[(bool(row["bold"]), [visible(column.text(row)) for column in words.columns]) for row in words.rows],
        chart=rank_chart(overall),
        pairs=[visible(text) for text in words.pairs],
        lacking=[visible(text) for text in words.lacking],
        findings=[visible(text) for text in words.findings],
    )


def bare(drawn: Chart) -> Chart:
    """A chart without its rows and its title, which a page shows as text."""
    return {key: value for key, value in drawn.items() if key != "title"} | {"data": {"name": drawn["data"]["name"]}}


def caption(drawn: Chart) -> str:
    """What a chart says under its title."""
    words: str | Sequence[str] = drawn.get("title", {}).get("subtitle", "")
    return words if isinstance(words, str) else " ".join(words)


def choices(sections: Iterable[Section]) -> dict[str, list[str]]:
    """What each filter offers: the values that occur, where there are several."""
    everyone = [point for one in sections for point in one.points]
    found = {name: sorted({point[name] for point in everyone}) for name in ("dataset", "pair", "family", "searched")}
    return {name: values if len(values) > 1 else [] for name, values in found.items()}
