"""Which studies ``kdzoo tune --show`` shows: those of a folder of runs, or some of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdzoo.cli.options import Options, given_options
from kdzoo.errors import UsageError, unknown
from kdzoo.flags import OPTIONS

if TYPE_CHECKING:
    from kdzoo.study import Study

_CHOOSING = ("strategies", "dataset", "teacher", "student")


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
            f"{', '.join(flags)} {verb} how to run a bench, and {asked_by} runs nothing: leave one of them out"
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
