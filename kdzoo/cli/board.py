"""``kdzoo board``: the board of a store, printed again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def board(
    out: Annotated[Path, typer.Option(help="The folder of runs, as bench was given it.")] = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md, csv, json or latex.")] = "table",
    sort: Annotated[str, typer.Option(help="A column to sort by, best first; -column for worst first.")] = "rank",
    by: Annotated[str, typer.Option(help="One table for each pair, dataset, teacher, student or strategy.")] = "pair",
) -> None:
    """Print the board of the runs that are there: strategies compared on the same pair, recipe and seeds."""
    from kdzoo.board.render import board_text
    from kdzoo.store import Store

    store = Store.open(out)
    records, problems = store.readable_records()
    for problem in problems:
        typer.echo(f"warning: left out: {problem}", err=True)
    typer.echo(board_text(records, store.planned(), format=format, sort=sort, by=by), nl=False)
    if problems:
        raise typer.Exit(1)
