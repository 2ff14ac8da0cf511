"""``kdzoo board``: the board of a store, printed again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer


def board(
    out: Annotated[Path, typer.Option(help="Folder of runs (the --out of the bench).")] = Path("runs"),
    format: Annotated[str, typer.Option(help="table, md, csv, json or latex.")] = "table",
    sort: Annotated[str, typer.Option(help="Column to sort by, best first; -COLUMN for worst first.")] = "rank",
    by: Annotated[str, typer.Option(help="One table for each pair, dataset, teacher, student or strategy.")] = "pair",
    power: Annotated[
        float | None,
        typer.Option(metavar="POINTS", help="Print how many seeds detect a difference to ce of so many points."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the full notes on the numbers under the table.")
    ] = False,
) -> None:
    """Print the board of a folder of runs: strategies compared on the same pair, recipe and seeds."""
    with without_collector():
        problems = _print_board(out, format, sort, by, power, explain)
    if problems:
        raise typer.Exit(1)


def _print_board(out: Path, format: str, sort: str, by: str, power: float | None, explain: bool) -> list[str]:
    """Print a board, and say what could not be read."""
    from kdzoo.board.cache import read_results
    from kdzoo.board.render import board_text, check_request, power_text
    from kdzoo.board.terminal import output_width
    from kdzoo.engine.resources import usable_cores
    from kdzoo.errors import UsageError
    from kdzoo.store import Store

    if power is not None and format != "table":
        raise UsageError("--power prints a table for the terminal; leave out --format")
    check_request(format=format, by=by, points=power)
    store = Store.open(out)
    studies, problems = store.readable_studies()
    read = read_results(store, processes=usable_cores())
    planned = store.planned(read.ids, problems)
    if power is None:
        text = board_text(
            read.results, planned, studies, format=format, sort=sort, by=by, width=output_width(), explain=explain
        )
    else:
        text = power_text(read.results, planned, studies, points=power, sort=sort, by=by, width=output_width())
    problems += read.problems
    for problem in problems:
        typer.echo(f"warning: left out: {problem}", err=True)
    typer.echo(text, nl=False)
    return problems


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Without the collector of cycles: it would scan the growing heap of modules and records, and find none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
