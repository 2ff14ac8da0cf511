"""What ``kdzoo bench`` and ``kdzoo tune`` share: the plan of what was asked for, and the run of it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import BenchPlan, make_plan
from kdzoo.bench.session import BenchResult, run_bench
from kdzoo.cli.dryrun import show_plan, show_refused
from kdzoo.cli.options import Options, read_config
from kdzoo.cli.plugins import warn_of_broken
from kdzoo.cli.progress import make_report
from kdzoo.config import BenchConfig
from kdzoo.errors import UsageError
from kdzoo.registry import Registry
from kdzoo.store import Store


@dataclass(frozen=True)
class Prepared:
    """A bench that can run: everything that can be wrong before has been told."""

    plan: BenchPlan
    registry: Registry
    settings: BenchConfig


def prepare(options: Options, *, dry_run: bool, defaults: Mapping[str, Any] | None = None) -> Prepared:
    """Plan what the options ask for; a dry run also prints it.

    Args:
        options: as the command line gave them.
        dry_run: whether to print the plan.
        defaults: keys of the configuration for where neither options nor the bench file say anything.

    Raises:
        UsageError: something is wrong, or no strategy can serve.
    """
    settings = read_config(options, defaults or {})
    store = Store.check(Path(settings.out))
    registry = Registry.load(options["plugin"] or ())
    warn_of_broken(registry)
    plan = make_plan(settings, registry)
    # A file that cannot be read is told now, not when its turn comes.
    for cell in plan.cells:
        store.state(cell.id)
    for study in plan.studies:
        store.find_study(study.id)
    show_refused(plan)
    if dry_run:
        show_plan(plan, store)
    elif not any(cell.strategy.name != "ce" for cell in plan.cells) and plan.refused:
        raise UsageError("no strategy of this bench can serve its pairs")
    return Prepared(plan, registry, settings)


def run(prepared: Prepared, *, only_tune: bool = False) -> BenchResult:
    """Run the bench, showing how it goes; Ctrl-C ends it with exit code 130."""
    plan, settings = prepared.plan, prepared.settings
    lab = Lab(
        store=Store.create(Path(settings.out)),
        registry=prepared.registry,
        device=plan.device,
        data=plan.data,
        files=plan.files,
        command=shlex.join(["kdzoo", *sys.argv[1:]]),
    )
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    try:
        with make_report(cells, plan.later(only_tune=only_tune)) as report:
            return run_bench(plan, lab, report, settings.rerun, only_tune=only_tune)
    except KeyboardInterrupt:
        typer.echo("\nStopped. Finished epochs are kept: run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
