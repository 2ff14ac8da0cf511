"""``kdzoo tune``: the studies of a bench, without its final runs; and studies shown and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.cli.options import DryRun, Options, bench_options
from kdzoo.errors import UsageError

if TYPE_CHECKING:
    from kdzoo.study import Study

_SHOW = "Showing studies"
_TRIALS = 20


@bench_options
def tune(
    options: Options,
    dry_run: DryRun = False,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            metavar="",
            help="Print the studies of --out, run nothing; --strategies, --dataset, --teacher and --student choose.",
            rich_help_panel=_SHOW,
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="As --show, and draw each study's history, slices and importances into this folder, as SVG and PNG.",
            metavar="FOLDER",
            rich_help_panel=_SHOW,
        ),
    ] = None,
) -> None:
    """Search each strategy's parameters by top-1 on tune, and print the studies. 20 trials unless told otherwise.

    `kdzoo bench` with the same options finds these studies done and trains the winners.

    [dim]kdzoo tune --strategies soft,at --trials 15[/dim]
    """
    if show or plot is not None:
        from kdzoo.cli.studies import chosen_studies

        studies, whole = chosen_studies(options, "--show" if show else "--plot", dry_run=dry_run)
        _show(studies, plot)
        if not whole:
            raise typer.Exit(1)
        return
    from kdzoo.cli.running import prepare, run

    prepared = prepare(options, dry_run=dry_run, defaults={"tune": _TRIALS}, only_tune=True)
    if dry_run:
        return
    if not prepared.plan.studies:
        raise UsageError("none of these strategies declares anything to search; give a range with --search")
    result = run(prepared, only_tune=True)
    if prepared.done:
        typer.echo(
            "These studies were finished before: nothing was run. Another number of --trials is another study; "
            "--rerun always runs their trials again.",
            err=True,
        )
    _show(result.studies, None)
    if prepared.plan.refused or any(record.status == "failed" for record in result.records):
        raise typer.Exit(1)


def _show(studies: list[Study], plot: Path | None) -> None:
    from kdzoo.cli.width import output_width
    from kdzoo.tuning.report import studies_text

    typer.echo(studies_text(studies, width=output_width()), nl=False)
    if plot is not None:
        from kdzoo.tuning.charts import write_plots

        for path in write_plots(studies, plot):
            typer.echo(f"wrote {path}", err=True)
