"""The command line: one small module per command, none of which imports torch before it has to."""

from __future__ import annotations

import atexit
import gc
import io
import sys
from typing import Annotated

import typer

from kdzoo.cli.bank import bank_app
from kdzoo.cli.bench import bench
from kdzoo.cli.board import board
from kdzoo.cli.check_strategy import check_strategy
from kdzoo.cli.data import data
from kdzoo.cli.find import find
from kdzoo.cli.new import new
from kdzoo.cli.pair import pair
from kdzoo.cli.plugins import plugins
from kdzoo.cli.publish import check, merge, publish
from kdzoo.cli.run_cell import train_cells
from kdzoo.cli.strategies import strategies_app
from kdzoo.cli.tune import tune
from kdzoo.errors import KdzooError, recording_ctrl_c
from kdzoo.files import from_home
from kdzoo.foreign import story, text_of

app = typer.Typer(
    name="kdzoo",
    help="A zoo of knowledge-distillation strategies with a benchmark harness.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"kdzoo {version('kdzoo')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


app.command()(bench)
app.command()(tune)
app.command()(find)
app.command()(board)
app.command("run-cell")(train_cells)
app.command()(publish)
app.command()(check)
app.command()(merge)
app.add_typer(strategies_app, name="strategies")
app.add_typer(bank_app, name="bank")
app.command("check-strategy")(check_strategy)
app.command()(plugins)
app.command()(pair)
app.command()(data)
app.command()(new)


def _at_home(word: str) -> str:
    """A word of the command line as a shell would read its path: ``~`` also in quotes and behind ``--out=``."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + from_home(value) if value.startswith("~/") else word


def main() -> None:
    """Run the command line. Exit codes: 0 all done, 1 some cells failed, 2 wrong usage, 130 stopped by Ctrl-C."""
    # Else the interpreter looks for cycles in all that is left before it ends: 1 s of a command that used torch.
    atexit.register(gc.freeze)
    sys.argv[1:] = map(_at_home, sys.argv[1:])
    # A character that the terminal's encoding lacks is written out, wherever it comes from.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with recording_ctrl_c():
            app()
    except KdzooError as error:
        print(f"error: {story(text_of(error))}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output went away (as `head` does); there is nobody to tell.
        sys.stderr.close()
        sys.exit(1)
