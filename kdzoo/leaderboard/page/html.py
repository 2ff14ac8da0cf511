"""A board as one HTML page that works offline from a file: a table to sort and filter, charts, a row's command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from kdzoo.board.display import Table, more_notes, notes, tables
from kdzoo.board.overall_text import overall_notes
from kdzoo.board.table import Board
from kdzoo.drawing import THEME
from kdzoo.foreign import visible
from kdzoo.leaderboard.charts.scores import headline
from kdzoo.leaderboard.page.chartcode import (
    block,
    library_of,
    load_library,
    own_library,
    script_source,
    without_library,
)
from kdzoo.leaderboard.page.details import Details, is_address, safe_url
from kdzoo.leaderboard.page.sections import Ranking, Section, bare, caption, choices, ranking, section
from kdzoo.record import Record
from kdzoo.study import Study

__all__ = ["dataset_page", "index_page", "library_of", "own_library", "without_library"]

_P = (
    "p (Holm): p value of the paired t test of vs ce, corrected by Holm's method for the number of rows of the pair.",
    "Bold and p (Holm) can disagree: bold follows each row's own 95% interval, which is not corrected. A bold row with"
    " a p of 0.05 or more may be due to chance among so many rows.",
)

_INTRODUCTION = (
    "Students trained with knowledge distillation, and the same students trained alone (ce). "
    "Click a header to sort, and the name of a strategy for its seeds, learning curves, records and command."
)
_INDEX_INTRODUCTION = (
    "Students trained with knowledge distillation, and the same students trained alone (ce), on every dataset. "
    "Click a header to sort. The page of a dataset has each row's seeds, learning curves, records and command."
)


def dataset_page(
    title: str,
    board: Board,
    records: Iterable[Record],
    studies: Iterable[Study] = (),
    *,
    record_url: Callable[[Record], str],
    study_url: Callable[[Study], str] | None = None,
    cards: Mapping[str, str] = {},
    links: Mapping[str, str] = {},
    with_library: bool = True,
    printed: Sequence[Table] | None = None,
) -> str:
    """The page of one board. Equal input gives equal bytes, whatever the order of the records.

    Every name is escaped, and no address but a relative one or one of the web becomes a link. The page forbids itself
    every request and every script but its own.

    Args:
        title: what the page is called.
        board: made of these records, best by dataset: one section a table.
        records: the students', and the teachers' if they are to be linked.
        studies: those of the board.
        record_url: the URL of a record's file, relative to the page.
        study_url: that of a study's file; none is linked without it.
        cards: label or bare name of a strategy -> its card as plain text, or the address of its card.
        links: label -> URL, shown at the top.
        with_library: whether the charts' library is in the page; without it they are not drawn.
        printed: the board's tables, best first, if they were made before.
    """
    details = Details(records, studies, record_url, study_url)
    return _page(title, _INTRODUCTION, board, cards, links, with_library, details=details, printed=printed)


def index_page(
    title: str,
    board: Board,
    *,
    pages: Mapping[str, str],
    cards: Mapping[str, str] = {},
    links: Mapping[str, str] = {},
    with_library: bool = True,
) -> str:
    """The page that joins all datasets; rows lead to the page of their dataset.

    Args:
        title: what the page is called.
        board: of all datasets, made by dataset.
        pages: name of a dataset, as in the board's column -> URL of its page, relative to this one.
        cards, links, with_library: as for :func:`dataset_page`.
    """
    return _page(title, _INDEX_INTRODUCTION, board, cards, links, with_library, pages=pages)


def _page(
    title: str,
    introduction: str,
    board: Board,
    cards: Mapping[str, str],
    links: Mapping[str, str],
    with_library: bool,
    *,
    details: Details | None = None,
    pages: Mapping[str, str] | None = None,
    printed: Sequence[Table] | None = None,
) -> str:
    printed = tables(board, "rank") if printed is None else printed
    sections = [section(table, board.columns, details, pages) for table in printed]
    rankings = [ranking(one) for one in board.overalls]
    code = _source("page.js")
    library = load_library() if with_library else None
    policy = [script_source(code)] + ([script_source(library.code)] if library else [])
    page: str = _template().render(
        title=visible(title),
        introduction=introduction,
        links={visible(label): safe_url(url) for label, url in links.items()},
        pages={visible(name): safe_url(url) for name, url in (pages or {}).items()},
        sections=sections,
        rankings=rankings,
        caption=caption,
        headline=headline,
        choices=choices(sections),
        cards=_cards(cards),
        notes=[
            visible(note)
            for part in (notes(board, printed, "bold"), more_notes(board), _P, overall_notes(board.overalls, "bold"))
            for note in part
        ]
        + [visible(remark) for remark in board.remarks],
        data=script_json(_data(sections, rankings)),
        style=_source("page.css"),
        code=code,
        library=block(library),
        script_sources=" ".join(policy),
    )
    return page


def _data(sections: Iterable[Section], rankings: Iterable[Ranking]) -> dict[str, Any]:
    return {
        "theme": THEME,
        "sections": [one.data() for one in sections],
        "rankings": [
            {"spec": bare(one.chart), "points": one.chart["data"]["values"]} if one.chart else None for one in rankings
        ],
    }


def _cards(cards: Mapping[str, str]) -> list[dict[str, str]]:
    """Name, and either text or URL, of each strategy that has a card; by name."""
    return [
        {"name": visible(name)} | ({"url": card, "text": ""} if is_address(card) else {"url": "", "text": _lines(card)})
        for name, card in sorted(cards.items())
        if card
    ]


def _lines(text: str) -> str:
    """A text of several lines of which nothing but the line breaks acts."""
    return "\n".join(visible(line) for line in text.split("\n"))


def script_json(value: Any) -> str:
    """JSON that can stand within a script element, where neither ``</script>`` nor ``<!--`` may occur."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("kdzoo.leaderboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _template() -> Any:
    return _environment().get_template("page.html")


@cache
def _source(name: str) -> str:
    """A template's text as it stands: it is not filled in."""
    loader = _environment().loader
    if loader is None:
        raise LookupError(name)
    return loader.get_source(_environment(), name)[0].replace("\r\n", "\n")
