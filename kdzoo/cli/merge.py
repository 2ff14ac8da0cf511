"""``kdzoo merge``: the records of two people in one published folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from kdzoo.errors import UsageError, unknown


def merge(
    first: Annotated[Path, typer.Argument(help="A published folder, or a folder of runs.", metavar="A")],
    second: Annotated[Path, typer.Argument(help="Another one.", metavar="B")],
    to: Annotated[
        Path | None, typer.Option(help="A new folder for both; by default B is added to A.", metavar="FOLDER")
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option(help="first or second: whose result is kept where A and B contradict.", metavar="WHICH"),
    ] = None,
) -> None:
    """Unite the records of two people in one published folder.

    A folder of runs has a store.json, a published one has records.

    Contradictions are listed, and nothing is written until --prefer decides them.

    The result passes kdzoo check, or nothing is written.

    [dim]kdzoo merge leaderboards theirs --to both[/dim]
    """
    if prefer not in (None, "first", "second"):
        raise UsageError(unknown("side to prefer", prefer, ("first", "second")))

    from kdzoo.cli.publish import refused, show_published
    from kdzoo.leaderboard.merge import merge as merge_folders
    from kdzoo.leaderboard.write import RefusedError

    side = cast(Literal["neither", "first", "second"], prefer or "neither")
    try:
        merged = merge_folders(first, second, to, side)
    except RefusedError as error:
        raise refused(error) from None
    show_published(merged, first if to is None else to)
