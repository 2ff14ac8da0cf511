"""``kdzoo tune``: the studies of a bench, without its final runs; and studies shown and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.cli.options import DryRun, Options, bench_options, given_options
from kdzoo.errors import UsageError, unknown
from kdzoo.flags import OPTIONS

if TYPE_CHECKING:
    from kdzoo.study import Study

_SHOW = "Showing studies"
_TRIALS = 20
_CHOOSING = ("strategies", "dataset", "teacher", "student")


@bench_options
def tune(
    options: Options,
    dry_run: DryRun = False,
    show: Annotated[
        bool,
        typer.Option(
            "--show",
            metavar="",
            help="Print the studies in --out, run nothing; --strategies, --dataset, --teacher and --student select.",
            rich_help_panel=_SHOW,
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Like --show; also draw history, slices and importances of each study into this folder, SVG and PNG.",
            metavar="FOLDER",
            rich_help_panel=_SHOW,
        ),
    ] = None,
) -> None:
    """Search each strategy's parameters by the main measure on tune, and print the studies. 20 trials by default.

    `kdzoo bench` with the same options reuses these studies and trains the winners.

    [dim]kdzoo tune --strategies soft,at --trials 15[/dim]
    """
    if show or plot is not None:
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
            "These studies were already finished, so nothing was run. Another number of --trials makes another "
            "study; --rerun always runs the trials again.",
            err=True,
        )
    _show(result.studies, None)
    if prepared.plan.refused or any(record.status == "failed" for record in result.records):
        raise typer.Exit(1)


def _show(studies: list[Study], plot: Path | None) -> None:
    from kdzoo.board.terminal import output_width
    from kdzoo.tuning.report import studies_text

    typer.echo(studies_text(studies, width=output_width()), nl=False)
    if plot is not None:
        from kdzoo.tuning.charts import write_plots

        for path in write_plots(studies, plot):
            typer.echo(f"wrote {path}", err=True)


def chosen_studies(options: Options, asked_by: str, *, dry_run: bool) -> tuple[list[Study], bool]:
    """The studies of ``--out`` of the named strategies, datasets, teachers and students; all where none is named.

    Beside them, whether every study could be read; each that could not is told.

    Args:
        options: as the command line gave them.
        asked_by: the flag that asked for the studies, for messages.
        dry_run: whether that was asked for too.

    Raises:
        UsageError: an option says how to run, or a name has no study here.
    """
    from kdzoo.flags import split_list

    given = [name for name in given_options(options) if name not in (*_CHOOSING, "out")]
    flags = [OPTIONS[name].spelled[-1] for name in given] + ["--dry-run"] * dry_run
    if flags:
        verb = "says" if len(flags) == 1 else "say"
        raise UsageError(
            f"{', '.join(flags)} {verb} how to run a bench, but {asked_by} runs nothing: leave one of them out"
        )
    studies, problems = _stored(Path(options["out"] or "runs"))
    for option in _CHOOSING:
        wanted = split_list(options[option] or "")
        if wanted and "all" not in wanted:
            known = sorted({name for study in studies for name in _names(study, option)})
            for name in wanted:
                if name not in known:
                    raise UsageError(unknown(f"{_singular(option)} of a study here", name, known))
            studies = [study for study in studies if not _names(study, option).isdisjoint(wanted)]
    return studies, not problems


def _stored(out: Path) -> tuple[list[Study], list[str]]:
    from kdzoo.store import Store

    studies, problems = Store.open(out).readable_studies()
    for problem in problems:
        typer.echo(f"warning: left out: {problem}", err=True)
    return studies, problems


def _names(study: Study, option: str) -> set[str]:
    """What a study's strategy, dataset, teacher or student may be called."""
    plan = study.plan
    return {
        "strategies": {plan.strategy.name, f"{plan.strategy.distribution}:{plan.strategy.name}"},
        "dataset": {plan.data.name},
        "teacher": {str(plan.teacher.model)},
        "student": {str(plan.student)},
    }[option]


def _singular(option: str) -> str:
    return "strategy" if option == "strategies" else option
