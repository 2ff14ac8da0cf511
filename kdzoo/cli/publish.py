"""``kdzoo publish``: from runs to a folder that others can read and check."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.errors import UsageError

if TYPE_CHECKING:
    from kdzoo.leaderboard.publish import Published
    from kdzoo.leaderboard.write import RefusedError


def publish(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Folders of runs, as bench was given them.", metavar="RUNS")
    ] = None,
    to: Annotated[Path, typer.Option(help="The published folder; made if it is not there.", metavar="FOLDER")] = Path(
        "leaderboards"
    ),
    replace: Annotated[
        bool,
        typer.Option("--replace", metavar="", help="Take the new result of a cell that contradicts the one there."),
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", metavar="", help="Copy nothing; make tables, pages and plots anew.")
    ] = False,
) -> None:
    """Copy records into a published folder, and make its tables, pages and plots.

    Weights stay where they are. Tracebacks and local paths are left out. Without RUNS, what --to holds is made anew.

    [dim]kdzoo publish runs --to boards[/dim]
    """
    if runs and refresh:
        raise UsageError("--refresh copies nothing; leave it out, or leave out the folders of runs")

    from kdzoo.leaderboard.publish import publish as publish_runs
    from kdzoo.leaderboard.write import RefusedError

    try:
        published = publish_runs(runs or (), to, replace=replace, redraw=refresh)
    except RefusedError as error:
        raise refused(error) from None
    show_published(published, to)


def refused(error: RefusedError) -> typer.Exit:
    """Tell why nothing was written; the exit to raise."""
    typer.echo(f"error: {error}", err=True)
    for line in error.lines:
        typer.echo(f"  {line}", err=True)
    return typer.Exit(1)


def show_published(published: Published, to: Path) -> None:
    """Print what was copied and made, and what `kdzoo check` will say of it.

    Raises:
        typer.Exit: with code 1, if it will find a fault.
    """
    union, written = published.union, published.written
    for place, count in sorted(Counter(path.parent for path in written.records).items()):
        typer.echo(f"copied  {to / place}: {count:,}")
    for path in written.made:
        typer.echo(f"made    {to / path}")
    for path in written.removed:
        typer.echo(f"removed {to / path}")
    typer.echo(
        f"{len(union.records):,} records and {len(union.studies):,} studies; {len(union.added):,} came new, "
        f"{len(union.replaced):,} replaced another, {len(union.kept):,} were there"
    )
    for fault in published.faults:
        typer.echo(f"warning: kdzoo check will find: {fault}", err=True)
    if published.faults:
        raise typer.Exit(1)
