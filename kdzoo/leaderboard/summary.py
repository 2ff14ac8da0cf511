"""The texts around a published folder's tables: the head of a board, the index, and the cards of strategies."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from tabulate import tabulate

from kdzoo.board.display import Table
from kdzoo.board.exports import markdown
from kdzoo.board.labels import OWN_DISTRIBUTION, VOUCHED
from kdzoo.board.printed import RowValues, interval_text, number, strategy_text, was_vouched
from kdzoo.measures import Measure, in_order
from kdzoo.record import Record

_MADE = "<!-- Made from the records by `kdzoo publish`. Do not edit: `kdzoo check` compares. -->"
_FILES = "[CSV](board.csv), [JSON](board.json), [LaTeX](board.tex)"


def board_markdown(title: str, pictures: Sequence[tuple[str, str]], board: str) -> str:
    """The page of a dataset.

    Args:
        title: the dataset.
        pictures: (what it shows, relative path) of each plot.
        board: the tables, as Markdown.
    """
    shown = [f"![{markdown(text).replace(']', '&#93;')}]({path})" for text, path in pictures]
    links = f"[All datasets](../index.md). Sortable and filterable: [board.html](board.html). Data: {_FILES}."
    return "\n\n".join([_MADE, f"# {markdown(title)}", links, *shown, board])


def index_markdown(found: Sequence[tuple[str, Sequence[str], int, Sequence[Table]]]) -> str:
    """The page that joins the datasets: the best row of each pair, beside the baseline and the teacher.

    Args:
        found: (folder, names, number of records, tables by pair) of each dataset.
    """
    blocks = [_MADE, "# Leaderboards"]
    if not found:
        blocks.append("No records yet.")
    for slug, names, records, printed in found:
        name = markdown(", ".join(names)).replace("]", "&#93;").replace("[", "&#91;")
        tables = "one table" if len(printed) == 1 else f"{len(printed)} tables"
        counted = (
            f"{records:,} records in {tables}, one for each pair and recipe"
            if len(printed) > 1
            else (f"{records:,} records in {tables}")
        )
        blocks.append(f"## [{name}]({slug}/board.md)\n\n{counted}.\n\n{_best(printed)}")
    if found:
        blocks.append(
            f"The best row of each pair has the {_best_mean(found)} on test (all rows in a tie). Its difference "
            f"to ce is over shared seeds, with a 95% paired t interval; bold where the interval excludes 0, not "
            f"corrected for the number of rows. Among many rows the best is partly due to chance: the boards show "
            f"all rows."
        )
    return "\n\n".join(blocks) + "\n"


def _best_mean(found: Sequence[tuple[str, Sequence[str], int, Sequence[Table]]]) -> str:
    mains = in_order({table.main for _, _, _, printed in found for table in printed})
    return " or ".join(f"{main.best} mean {main.title}" for main in mains)


def _best(printed: Sequence[Table]) -> str:
    lines = [_line(table) for table in printed]
    mains = in_order({table.main for table in printed})
    scores = " or ".join(main.heading for main in mains)
    teacher = "teacher %" if all(main.unit == "%" for main in mains) else "teacher"
    headers = ["pair", "recipe", "best row", "seeds", scores, "vs ce", "95% interval", teacher]
    align = ["left", "left", "left", "right", "right", "right", "left", "right"]
    return tabulate(lines, headers=headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def _line(table: Table) -> list[str]:
    """The rows in the first place, in one line; one that says so where there is none."""
    head = [markdown(table.group.title), markdown(table.group.recipe)]
    best = [row for row in table.rows if row["rank"] == 1]
    if not best:
        return [*head, "none done", "-", "-", "-", "-", "-"]
    cells = zip(*([_strong(text, row) for text in _cells(row, table.main)] for row in best), strict=True)
    return [*head, *("; ".join(dict.fromkeys(texts)) for texts in cells)]


def _strong(text: str, row: RowValues) -> str:
    return f"**{markdown(text)}**" if row["bold"] and text != "-" else markdown(text)


def _cells(row: RowValues, main: Measure) -> list[str]:
    return [
        strategy_text(row),
        f"{row['done']}/{row['seeds']}",
        number(row[main.name], main.digits),
        number(row["diff_ce"], main.digits, sign=True),
        interval_text(row, main),
        number(row[main.on("teacher")], main.digits) + (f" ({VOUCHED})" if was_vouched(row) else ""),
    ]


def cards(records: Iterable[Record]) -> dict[str, str]:
    """Strategy -> what is known of it without its plugin: of a built-in one what it does and its paper; of every one
    what its records say."""
    found: dict[str, set[str]] = defaultdict(set)
    about: dict[str, str] = {}
    for record in records:
        strategy = record.cell.strategy
        if record.cell.kind == "student":
            family = f"family {record.family}, " if record.family else ""
            origin = f"revision {strategy.revision} of the distribution {strategy.distribution}"
            names = ", ".join(sorted(strategy.params)) or "none"
            found[strategy.name].add(f"{family}{origin}; parameters: {names}")
            if strategy.distribution == OWN_DISTRIBUTION and strategy.name in _built_in():
                about[strategy.name] = _about(strategy.name)
    return {
        name: about.get(name, "")
        + f"{'; '.join(sorted(origins))}. The command `kdzoo strategies show {name}` prints the card."
        for name, origins in found.items()
    }


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    """What ``docs/leaderboard_cards.py`` wrote of the built-in strategies."""
    text = (resources.files("kdzoo.leaderboard") / "cards.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = json.loads(text)
    return found


def _about(name: str) -> str:
    """What a built-in strategy does, in paragraphs, each with an empty line after it."""
    card = _built_in()[name]
    paper = [f"Paper: {card['paper']}"] if card["paper"] else []
    first, *others = card["about"]
    parts = [first, *paper, *others, f"This describes revision {card['revision']}."]
    return "".join(f"{part}\n\n" for part in parts)
