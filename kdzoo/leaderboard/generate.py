"""A published folder's records -> the files that are made from them: tables, pages and plots for each dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from kdzoo.board.display import Table, tables
from kdzoo.board.exports import to_csv, to_json, to_latex, to_markdown
from kdzoo.board.table import Board, make_board
from kdzoo.drawing import png, svg
from kdzoo.leaderboard.charts.comparison import forest_chart, rank_chart
from kdzoo.leaderboard.charts.parts import Chart
from kdzoo.leaderboard.charts.scores import accuracy_chart, headline
from kdzoo.leaderboard.layout import (
    PLOTS,
    Leaderboard,
    dataset_slug,
    path_of_record,
    path_of_study,
)
from kdzoo.leaderboard.page.html import dataset_page, index_page
from kdzoo.leaderboard.summary import board_markdown, cards, index_markdown
from kdzoo.record import Record
from kdzoo.study import Study

_WIDTH = 120
_LINKS = {
    "All datasets": "../index.html",
    "Markdown": "board.md",
    "CSV": "board.csv",
    "JSON": "board.json",
    "LaTeX": "board.tex",
}


@dataclass(frozen=True)
class Generated:
    """What is made from records; what takes long to make is not made yet.

    Attributes:
        texts: path -> content of Markdown, CSV, JSON and LaTeX.
        pages: path -> HTML.
        charts: path without suffix -> what the SVG and the PNG are drawn from.
    """

    texts: dict[PurePosixPath, str] = field(default_factory=dict)
    pages: dict[PurePosixPath, str] = field(default_factory=dict)
    charts: dict[PurePosixPath, Chart] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetBoards:
    """What a folder of a dataset is made from.

    Attributes:
        slug: the folder.
        names: of the dataset: one, or those that share the folder.
        records: students' and teachers'.
        studies: those of its pairs.
    """

    slug: str
    names: tuple[str, ...]
    records: tuple[Record, ...]
    studies: tuple[Study, ...]


def dataset_boards(leaderboard: Leaderboard) -> list[DatasetBoards]:
    """The datasets that have students, by their folders."""
    records: dict[str, list[Record]] = defaultdict(list)
    studies: dict[str, list[Study]] = defaultdict(list)
    for record in leaderboard.records:
        records[dataset_slug(record.cell.data)].append(record)
    for study in leaderboard.studies:
        studies[dataset_slug(study.plan.data)].append(study)
    found = []
    for slug in sorted(records):
        students = [record for record in records[slug] if record.cell.kind == "student"]
        if students:
            names = tuple(sorted({record.cell.data.name for record in students}))
            found.append(DatasetBoards(slug, names, tuple(records[slug]), tuple(studies[slug])))
    return found


def generate(leaderboard: Leaderboard, *, with_library: bool = True) -> Generated:
    """Everything but the drawings of the plots. Equal records give equal bytes.

    Args:
        leaderboard: records and studies.
        with_library: whether the pages hold the library that draws their charts; without it they are made at once.
    """
    made = Generated()
    found = dataset_boards(leaderboard)
    pairs = {}
    for dataset in found:
        board = make_board(dataset.records, (), dataset.studies, by="pair")
        printed = tables(board, "rank")
        pairs[dataset.slug] = printed
        _add_dataset(made, dataset, board, printed, with_library)
    index = make_board(leaderboard.records, (), leaderboard.studies, by="dataset")
    made.texts[PurePosixPath("index.md")] = index_markdown(
        [(dataset.slug, dataset.names, len(dataset.records), pairs[dataset.slug]) for dataset in found]
    )
    made.pages[PurePosixPath("index.html")] = index_page(
        "Leaderboards",
        index,
        pages={name: f"{dataset.slug}/board.html" for dataset in found for name in dataset.names},
        cards=cards(leaderboard.records),
        links={"Markdown": "index.md"},
        with_library=with_library,
    )
    return made


def _add_dataset(
    made: Generated, dataset: DatasetBoards, board: Board, printed: list[Table], with_library: bool
) -> None:
    folder = PurePosixPath(dataset.slug)
    title = ", ".join(dataset.names)
    whole = make_board(dataset.records, (), dataset.studies, by="dataset")
    sections = tables(whole, "rank")
    charts = _charts(sections, board)
    made.charts.update({folder / PLOTS / name: chart for name, (_, chart) in charts.items()})
    pictures = [(text, f"{PLOTS}/{name}.svg") for name, (text, _) in charts.items()]
    made.texts[folder / "board.md"] = board_markdown(title, pictures, to_markdown(board, printed, _WIDTH))
    made.texts[folder / "board.csv"] = to_csv(board, printed, _WIDTH)
    made.texts[folder / "board.json"] = to_json(board, printed, _WIDTH)
    made.texts[folder / "board.tex"] = to_latex(board, printed, _WIDTH)
    made.pages[folder / "board.html"] = dataset_page(
        title,
        whole,
        dataset.records,
        dataset.studies,
        record_url=lambda record: f"../{path_of_record(record)}",
        study_url=lambda study: f"../{path_of_study(study)}",
        cards=cards(dataset.records),
        links=_LINKS,
        with_library=with_library,
        printed=sections,
    )


def _charts(sections: Sequence[Table], board: Board) -> dict[str, tuple[str, Chart]]:
    """File's name without suffix -> (what it shows, chart)."""
    found: dict[str, tuple[str, Chart]] = {}
    for number, table in enumerate(sections, start=1):
        end = f"-{number}" if number > 1 else ""
        about = table.group.full_title
        if chart := accuracy_chart(table.rows, about, table.main):
            found[f"accuracy-parameters{end}"] = (f"{headline(chart, table.main)}, {about}", chart)
        if chart := forest_chart(table.rows, about, table.main):
            found[f"forest{end}"] = (f"Differences to ce, {about}", chart)
    for number, one in enumerate(board.overalls, start=1):
        if chart := rank_chart(one, "Mean ranks"):
            about = f"Mean ranks of {one.kind} rows" if one.kind else "Mean ranks over all pairs"
            found["ranks" + (f"-{number}" if number > 1 else "")] = (about, chart)
    return found


def generated_files(
    leaderboard: Leaderboard, drawn: Callable[[PurePosixPath, Chart], bytes | None] = lambda path, chart: None
) -> dict[PurePosixPath, bytes]:
    """All files that are made from records, drawings included, each of which takes a good part of a second.

    Args:
        leaderboard: records and studies.
        drawn: the content of a drawing that is there already; None where it must be drawn.
    """
    made = generate(leaderboard)
    files = {path: text.encode() for path, text in {**made.texts, **made.pages}.items()}
    for stem, chart in made.charts.items():
        for suffix, draw in ((".svg", svg), (".png", png)):
            path = stem.with_name(stem.name + suffix)
            files[path] = drawn(path, chart) or draw(chart)
    return files
