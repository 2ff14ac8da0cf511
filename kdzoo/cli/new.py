"""``kdzoo new``: a package with a strategy or a dataset of one's own, ready to install, test and train."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.errors import UsageError, os_reason

if TYPE_CHECKING:
    from kdzoo.scaffold.project import Names


def new(
    name: Annotated[
        str, typer.Argument(help="Name of the strategy (or dataset) for --strategies (or --dataset).", metavar="NAME")
    ],
    family: Annotated[
        str | None,
        typer.Option(
            help="Family to start from: response (the default), feature, attention, relation or contrastive.",
            metavar="FAMILY",
        ),
    ] = None,
    dataset: Annotated[bool, typer.Option("--dataset", metavar="", help="Create a dataset, not a strategy.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="The new folder; by default kdzoo-NAME.", metavar="FOLDER", show_default=False),
    ] = None,
) -> None:
    """Create a package of your own: a strategy that already trains, with its tests, for you to change.

    Each family starts from the small loss of a published paper. Nothing is overwritten.

    [dim]kdzoo new my-strategy --family feature[/dim]
    """
    from kdzoo.scaffold.project import dataset_files, read_name, strategy_files

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


def check_free(names: Names) -> None:
    """Refuse a name that an installed plugin uses for a strategy or a dataset, or whose package is installed.

    Raises:
        UsageError: it is taken, and by whom.
    """
    from kdzoo.cli.plugins import warn_of_broken
    from kdzoo.registry import Registry

    if find_spec(names.package) is not None:
        raise UsageError(
            f"the package {names.package} is already installed: choose another name, or `pip uninstall "
            f"{names.distribution}` first"
        )
    registry = Registry.load()
    warn_of_broken(registry)
    taken = {entry.name: entry.plugin for entry in registry.strategies}
    taken |= {entry.name: entry.plugin for entry in registry.datasets}
    if names.name in taken:
        raise UsageError(f"the name {names.name!r} is taken by {taken[names.name].distribution}: choose another")


def write_project(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a new folder, or into one that is there and empty.

    All is first written beside its place and then moved into it. Where anything fails, nothing is left.

    Args:
        folder: the folder; those above it are made too.
        files: text by path, relative to the folder, with / between the parts.

    Raises:
        UsageError: the folder holds something, is a file, or cannot be written.
    """
    # Not resolved, since a link that leads nowhere is refused below; but without .., which would name a folder that is
    # made on the way there.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100
    _check_empty(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            whole = Path(scratch) / folder.name
            for path, text in files.items():
                target = whole / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                _move_into(whole, folder)
            else:
                whole.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {os_reason(error)}") from None


def _check_empty(folder: Path) -> None:
    if folder.is_symlink() or folder.exists():
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file: name another folder with --dir")
        there = sorted(path.name for path in folder.iterdir())
        if there:
            more = f" and {len(there) - 3:,} more" if len(there) > 3 else ""
            raise UsageError(
                f"{folder} holds {', '.join(there[:3])}{more}, and nothing is overwritten: give a new or empty "
                f"folder with --dir"
            )


def _move_into(whole: Path, folder: Path) -> None:
    """Move a folder's content into an empty one, which may be somebody's current folder and so cannot be replaced."""
    moved: list[Path] = []
    try:
        for part in sorted(whole.iterdir()):
            part.rename(folder / part.name)
            moved.append(folder / part.name)
    except OSError:
        for path in moved:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise
