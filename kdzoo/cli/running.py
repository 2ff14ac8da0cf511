"""What ``kdzoo bench``, ``kdzoo tune`` and ``kdzoo find`` share: the plan of what was asked for, and the run of it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdzoo.bench.environment import changes
from kdzoo.bench.plan import BenchPlan, BenchResult, find_finished, make_plan
from kdzoo.bench.trackers import check_trackers
from kdzoo.cell import Cell
from kdzoo.cli.board import without_collector
from kdzoo.cli.dryrun import show_notes, show_plan, show_refusal, show_refused
from kdzoo.cli.options import Options, read_config
from kdzoo.cli.plugins import warn_of_broken
from kdzoo.config import BenchConfig, parse_bytes
from kdzoo.errors import KdzooError, UsageError
from kdzoo.foreign import from_plugin
from kdzoo.known import Known, NotKnownError
from kdzoo.record import Record
from kdzoo.registry import Registry
from kdzoo.store import Store

if TYPE_CHECKING:
    from kdzoo.bench.executors.local import Executor
    from kdzoo.bench.lab import Lab
    from kdzoo.bench.preflight import Preflight
    from kdzoo.cli.progress import PlainReport

_LINE = re.compile(r"\([^()\s]+\.py:\d+\)\Z")


@dataclass
class Prepared:
    """A bench that can run: everything that can be wrong before has been said.

    Args:
        plan: what it does.
        registry: the plugins.
        settings: as they were asked for.
        plugins: the files of ``--plugin``.
        done: whether all of it was done before.
        found: its result, where all of it was done before and torch was not asked.
        preflight: tries what is left; None where nothing is run.
    """

    plan: BenchPlan
    registry: Registry
    settings: BenchConfig
    plugins: tuple[Path, ...] = ()
    done: bool = False
    found: BenchResult | None = None
    preflight: Preflight | None = None


def prepare(
    options: Options,
    *,
    dry_run: bool,
    defaults: Mapping[str, Any] | None = None,
    only_tune: bool = False,
    change: Callable[[BenchPlan], None] | None = None,
) -> Prepared:
    """Plan what the options ask for; a dry run also prints it.

    Args:
        options: as the command line gave them.
        dry_run: whether to print the plan.
        defaults: keys of the configuration for where neither options nor the bench file say anything.
        only_tune: whether only teachers and trials will be trained.
        change: makes another plan of that of a bench.

    Raises:
        UsageError: something is wrong, or no strategy can serve.
    """
    settings = read_config(options, defaults or {})
    store = Store.check(Path(settings.out))
    files = tuple(options["plugin"] or ())
    cache = Known.open(files)
    prepared = None
    if change is None:
        with without_collector():
            prepared = _from_cache(settings, store, cache, dry_run=dry_run, only_tune=only_tune)
    if prepared is None:
        registry = Registry.load(files, cache)
        warn_of_broken(registry)
        prepared = Prepared(make_plan(settings, registry), registry, settings, files)
        cache.save()
    if change is not None:
        change(prepared.plan)
    plan, registry = prepared.plan, prepared.registry
    brought = [name for plugin in registry.plugins for name in plugin.trackers]
    check_trackers(settings.log_with, brought, lockstep=settings.lockstep)
    # A file that cannot be read is told now, not when its turn comes.
    found = {record.id: record for record in prepared.found.records} if prepared.found else {}
    records = [found.get(cell.id) or store.find_record(cell.id) for cell in plan.cells]
    for study in plan.studies:
        store.find_study(study.id)
    left = _left(prepared, store, only_tune=only_tune) if registry.loaded else []
    show_notes(plan)
    show_refused(plan)
    for warning in plan.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for line in plan.inputs if not dry_run else ():
        typer.echo(line, err=True)
    if settings.rerun != "always":
        for changed in changes((record for record in records if record), registry):
            typer.echo(f"warning: {changed}", err=True)
    if dry_run:
        show_plan(plan, store, only_tune=only_tune)
    elif not any(cell.strategy.name != "ce" for cell in plan.cells) and plan.refused:
        raise UsageError("no strategy of this bench can serve its pairs")
    if registry.loaded and not dry_run:
        from kdzoo.bench.preflight import Preflight
        from kdzoo.cli.data import check_images

        prepared.preflight = Preflight(plan, registry, left)
        check_images([plan.data[ref] for ref in dict.fromkeys(cell.data for cell in left)], _say)
        prepared.preflight.networks()
    return prepared


def _from_cache(
    settings: BenchConfig, store: Store, cache: Known, *, dry_run: bool, only_tune: bool
) -> Prepared | None:
    """A bench of which earlier commands found out all that is needed: its plan for a dry run, else also its result.

    Returns:
        None where torch must be asked: something is not known, is wrong, or is left to run.
    """
    try:
        registry = Registry.from_cache(cache)
        plan = make_plan(settings, registry)
        found = None if dry_run else find_finished(plan, store, only_tune=only_tune)
    except (NotKnownError, KdzooError):
        return None  # whatever is wrong is said by who looks at it anew
    if dry_run:
        decoded = any(data.files for data in plan.datasets)
        return None if decoded or settings.compile else Prepared(plan, registry, settings)
    if found is None or settings.rerun == "always":
        return None
    return Prepared(plan, registry, settings, done=True, found=found)


def _left(prepared: Prepared, store: Store, *, only_tune: bool) -> list[Cell]:
    """The cells that will run."""
    from kdzoo.bench.session import pending, winners_pending
    from kdzoo.engine.devices import check_compiler

    plan, settings = prepared.plan, prepared.settings
    left = pending(plan, store, settings.rerun, only_tune=only_tune)
    prepared.done = not left and (only_tune or not winners_pending(plan, store, settings.rerun))
    if settings.compile and not prepared.done:
        check_compiler(plan.device)
    return left


def write_plan(prepared: Prepared) -> None:
    """Note the cells that are known before tuning in the store, so that each can be run by itself."""
    store = Store.create(Path(prepared.settings.out), _say)
    for cell in prepared.plan.cells:
        store.plan(cell)
    where = "" if store.path == Path("runs") else f" --out {shlex.quote(str(store.path))}"
    typer.echo(f"Cells are written to {store.path}: `kdzoo run-cell ID{where}` trains them.")


def run(prepared: Prepared, *, only_tune: bool = False) -> BenchResult:
    """Run the bench, showing how it goes; Ctrl-C ends it with exit code 130."""
    plan = prepared.plan
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    if prepared.found:
        studies = [] if only_tune else prepared.found.studies
        winners = {cell.id for study in studies for cell in study.finals(range(plan.seeds))}
        if found := len(cells) + len(winners):
            _say(f"{found} of {len(cells) + len(plan.later(only_tune=only_tune))} cells were already done")
        return prepared.found
    return _train(prepared, cells, only_tune=only_tune)


def _train(prepared: Prepared, cells: list[Cell], *, only_tune: bool) -> BenchResult:
    from kdzoo.bench.session import run_bench
    from kdzoo.board.cache import refresh

    plan, settings, lab = prepared.plan, prepared.settings, make_lab(prepared)
    with at_work(prepared, lab, cells, plan.later(only_tune=only_tune), only_tune=only_tune) as (executor, report):
        result = run_bench(plan, lab, report, settings.rerun, only_tune=only_tune, executor=executor)
    show_failures(result.records, prepared.registry)
    refresh(lab.store)
    return result


def make_lab(prepared: Prepared) -> Lab:
    """The lab of a bench that can run."""
    from kdzoo.bench.lab import Lab
    from kdzoo.engine.bank.spec import BankSettings

    plan, settings = prepared.plan, prepared.settings
    return Lab(
        store=Store.create(Path(settings.out), _say),
        registry=prepared.registry,
        device=plan.device,
        data=plan.data,
        files=plan.files,
        command=shlex.join(["kdzoo", *sys.argv[1:]]),
        log_with=settings.log_with,
        eval_every=settings.eval_every,
        compile=settings.compile,
        trust_teacher=settings.trust_teacher,
        bank=BankSettings(
            mode=settings.bank,
            budget=parse_bytes(settings.bank_budget),
            dtype=settings.bank_dtype,
            shared=settings.workers not in (None, 1) or settings.executor != "local",
        ),
    )


@contextmanager
def at_work(
    prepared: Prepared,
    lab: Lab,
    cells: Sequence[Cell],
    later: Sequence[Cell] = (),
    *,
    only_tune: bool = False,
    counted: bool = True,
) -> Iterator[tuple[Executor, PlainReport]]:
    """Who runs the cells of a bench, and who shows them; Ctrl-C in the block ends with exit code 130.

    Args:
        prepared: the bench; its strategies are tried first.
        lab: of it.
        cells: what will run.
        later: stand-ins for what will run beside them.
        only_tune: whether only teachers and trials will be trained.
        counted: whether ``cells`` and ``later`` are all that will run.
    """
    from kdzoo.bench.crashes import marking_exits
    from kdzoo.bench.executors.selection import open_executor
    from kdzoo.cli.progress import make_report

    assert prepared.preflight
    try:
        with marking_exits():
            for refusal in prepared.preflight.strategies(lab.store):
                show_refusal("breaks on", refusal)
        with (
            open_executor(
                prepared.plan, lab, prepared.settings, prepared.plugins, _say, only_tune=only_tune
            ) as executor,
            make_report(cells, later, counted=counted) as report,
        ):
            lab.say_with(report.say)
            yield executor, report
    except KeyboardInterrupt:
        typer.echo("\nStopped. Finished epochs are kept: run the same command again to resume.", err=True)
        raise typer.Exit(130) from None


def _say(line: str) -> None:
    typer.echo(line, err=True)


def show_failures(records: Iterable[Record], registry: Registry) -> None:
    """Print, on standard error, the tracebacks of cells that failed in their strategy's code, each kind of them once.

    The records keep the whole tracebacks.

    Args:
        records: of a bench.
        registry: the loaded plugins.
    """
    shown: set[tuple[str, str]] = set()
    for record in records:
        strategy = record.cell.strategy
        failure = (strategy.name, record.reason)
        if record.status != "failed" or failure in shown or not _LINE.search(record.reason):
            continue
        shown.add(failure)
        homes = registry.of(strategy).homes
        typer.echo(
            f"\n{strategy.name} failed: {record.reason}\n{from_plugin(record.traceback, homes)}", err=True, nl=False
        )
