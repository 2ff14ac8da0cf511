"""``kdzoo new``: a package with a strategy or a dataset of one's own, ready to install, test and train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kdzoo.errors import UsageError


def new(
    name: Annotated[str, typer.Argument(help="What --strategies (or --dataset) shall call it.", metavar="NAME")],
    family: Annotated[
        str | None,
        typer.Option(
            help="What it starts from: response (the default), feature, attention, relation or contrastive.",
            metavar="FAMILY",
        ),
    ] = None,
    dataset: Annotated[bool, typer.Option("--dataset", metavar="", help="Start a dataset, not a strategy.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="The new folder; by default kdzoo-NAME.", metavar="FOLDER", show_default=False),
    ] = None,
) -> None:
    """Start a package of your own: a strategy that trains at once, with its tests, to be made yours.

    Each family starts from another small loss of a published paper. Nothing is written over.

    [dim]kdzoo new my-strategy --family feature[/dim]
    """
    from kdzoo.scaffold.names import read_name
    from kdzoo.scaffold.project import dataset_files, strategy_files, write_project
    from kdzoo.scaffold.taken import check_free

    if dataset and family is not None:
        raise UsageError("--family is for strategies: leave it out, or leave out --dataset")
    names = read_name(name, "dataset" if dataset else "strategy")
    files = dataset_files(names) if dataset else strategy_files(names, family or "response")
    check_free(names)
    place = Path(os.path.normpath(folder or names.distribution))
    write_project(place, {file.path: file.text for file in files})

    typer.echo(f"{place} holds the {'dataset' if dataset else 'strategy'} {name}:")
    width = max(len(file.path) for file in files)
    for file in files:
        typer.echo(f"  {file.path.ljust(width)}  {file.what}")
    typer.echo("\nNow type:")
    if place != Path():
        typer.echo(f"  cd {_quoted(str(place))}")
    typer.echo('  pip install -e ".[test]"')
    typer.echo("  python -m pytest")
    use = f"--dataset {name} --strategies soft" if dataset else f"--strategies {name},soft"
    typer.echo(f"  kdzoo bench {use}")


def _quoted(text: str) -> str:
    """A path as a word of a command line: bare where it can be, else as all shells take it, as far as they agree."""
    import re
    import shlex

    if re.fullmatch(rf"[\w./:{re.escape(os.sep)}-]+", text):
        return text
    odd = set('"$`!') | ({"\\"} if os.sep == "/" else set())
    return shlex.quote(text) if odd & set(text) else f'"{text}"'
