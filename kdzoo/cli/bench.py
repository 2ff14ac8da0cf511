"""``kdzoo bench``: from a pair to a board."""

from __future__ import annotations

from typing import Annotated

import typer

from kdzoo.cli.board import without_collector
from kdzoo.cli.options import DryRun, Options, bench_options
from kdzoo.flags import OPTIONS


@bench_options
def bench(
    options: Options,
    command: Annotated[
        str | None,
        typer.Argument(help=OPTIONS["command"].help, metavar=OPTIONS["command"].metavar, show_default=False),
    ] = None,
    dry_run: DryRun = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            metavar="",
            help="Show the cells, write them to --out, train nothing; kdzoo run-cell trains them.",
            rich_help_panel="Where and when",
        ),
    ] = False,
) -> None:
    """Train students with each strategy, on the same seeds, and print the board.

    Finished cells are kept in --out: the same command resumes a bench that was stopped.

    [dim]kdzoo bench --strategies soft,fitnets --teacher resnet101 --student resnet18[/dim]
    """
    with without_collector():
        from kdzoo.cli.running import prepare, run, write_plan
    from kdzoo.errors import UsageError

    if plan and dry_run:
        raise UsageError("--plan writes the cells and --dry-run writes nothing; give one of them")
    options["command"] = command
    prepared = prepare(options, dry_run=dry_run or plan)
    if plan:
        write_plan(prepared)
    if dry_run or plan:
        return
    result = run(prepared)

    from kdzoo.cli.dryrun import show_next, show_refused

    with without_collector():
        from kdzoo.board.render import board_text
        from kdzoo.board.terminal import output_width

        typer.echo(board_text(result.records, result.cells, result.studies, width=output_width()), nl=False)
    show_refused(prepared.plan)
    if prepared.plan.refused or any(record.status == "failed" for record in result.records):
        raise typer.Exit(1)
    if not prepared.done:
        show_next(prepared.settings)
