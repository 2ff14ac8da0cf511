"""``kdzoo board``: the board of a store, printed again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kdzoo.record import Record
    from kdzoo.store import Store


def board(
    out: Annotated[Path, typer.Option(help="The folder of runs, as bench was given it.")] = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md, csv, json or latex.")] = "table",
    sort: Annotated[str, typer.Option(help="A column to sort by, best first; -column for worst first.")] = "rank",
    by: Annotated[str, typer.Option(help="One table for each pair, dataset, teacher, student or strategy.")] = "pair",
    power: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Print how many seeds would show a difference to ce of so many points."),
    ] = None,
) -> None:
    """Print the board of the runs that are there: strategies compared on the same pair, recipe and seeds."""
    from kdzoo.board.render import board_text, power_text
    from kdzoo.errors import UsageError
    from kdzoo.store import Store

    if power is not None and format != "table":
        raise UsageError("--power prints a table for the terminal; leave out --format")
    store = Store.open(out)
    studies, problems = store.readable_studies()
    records = _records(store, problems)
    if power is None:
        text = board_text(records, store.planned(), studies, format=format, sort=sort, by=by)
    else:
        text = power_text(records, store.planned(), studies, points=power, sort=sort, by=by)
    for problem in problems:
        typer.echo(f"warning: left out: {problem}", err=True)
    typer.echo(text, nl=False)
    if problems:
        raise typer.Exit(1)


def _records(store: Store, problems: list[str]) -> Iterator[Record]:
    """The records one by one, because all at once they might not fit in memory; why one cannot be read goes to the
    problems."""
    from kdzoo.errors import KdzooError

    for path in sorted(store.cells.glob("*/record.json")):
        try:
            yield store.record(path.parent.name)
        except KdzooError as error:
            problems.append(str(error))
