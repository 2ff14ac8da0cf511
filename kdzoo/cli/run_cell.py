"""``kdzoo run-cell``: one planned cell, by itself."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdzoo.cli.options import Options, some_options

if TYPE_CHECKING:
    import torch

    from kdzoo.bench.lab import Lab
    from kdzoo.bench.single import Task
    from kdzoo.config import BenchConfig
    from kdzoo.engine.world import World
    from kdzoo.record import Record


@some_options(
    *("out", "rerun", "device", "data_dir", "eval_every", "compile", "trust_teacher"),
    *("bank", "bank_budget", "bank_dtype", "log_with", "plugin"),
)
def run_cell(
    options: Options,
    cell: Annotated[
        str, typer.Argument(help="The cell's id or the beginning of it, as bench --plan writes it.", metavar="ID")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="What opens its dataset here, where its own name does not: folder:PATH.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    teacher_weights: Annotated[
        Path | None,
        typer.Option(help="Its teacher's file of weights, where it was planned with one.", metavar="FILE"),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a model of its pair, where that was planned as local-dir:; may be repeated.",
            metavar="FOLDER",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", metavar="", help="Show no progress.")] = False,
) -> None:
    """Train one cell of --out, which kdzoo bench planned there, and its teacher before it if that is not trained yet.

    Started by a launcher, all its processes train the cell together: each batch is divided among them, and the record
    is that of one process. See docs/scaling.md.

    [dim]kdzoo run-cell 3f2a[/dim]

    [dim]accelerate launch --multi_gpu --num_processes 4 --module kdzoo run-cell 3f2a[/dim]
    """
    from kdzoo.bench.single import follow, together
    from kdzoo.config import load_bench
    from kdzoo.engine.devices import pick_device
    from kdzoo.engine.world import World, check_launcher

    check_launcher()
    settings = load_bench("quick", {name: value for name, value in options.items() if name != "plugin"})
    device = pick_device(settings.device)
    world = World.join(device)
    try:
        with together(world):
            plan = partial(
                _plan, settings, cell, world, device, dataset, teacher_weights, model or (), options["plugin"] or ()
            )
            task = world.lead(plan)
            lab = task.settings.make()
            lab.train_in(world)
            done = _lead(task, lab, quiet=quiet) if world.leads else follow(task, lab)
    except KeyboardInterrupt:
        typer.echo("\nStopped. Finished epochs are kept: run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
    if not done:
        raise typer.Exit(1)


def _plan(
    settings: BenchConfig,
    cell: str,
    world: World,
    device: torch.device,
    dataset: str | None,
    teacher_weights: Path | None,
    models: Sequence[Path],
    plugins: Sequence[Path],
) -> Task:
    from kdzoo.bench.single import plan_task
    from kdzoo.config import parse_bytes
    from kdzoo.engine.bank.spec import BankSettings
    from kdzoo.engine.devices import check_compiler
    from kdzoo.store import Store

    Store.open(Path(settings.out))
    if settings.compile:
        check_compiler(device)
    bank = BankSettings(
        mode=settings.bank,
        budget=parse_bytes(settings.bank_budget),
        dtype=settings.bank_dtype,
        shared=world.size > 1,
    )
    return plan_task(
        Store.create(Path(settings.out), partial(typer.echo, err=True)),
        cell,
        world,
        settings.rerun,
        device=device,
        dataset=dataset,
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        teacher_weights=teacher_weights,
        models=models,
        plugins=plugins,
        others={
            "command": shlex.join(["kdzoo", *sys.argv[1:]]),
            "log_with": settings.log_with,
            "bank": bank,
            "eval_every": settings.eval_every,
            "compile": settings.compile,
            "trust_teacher": settings.trust_teacher,
        },
    )


def _lead(task: Task, lab: Lab, *, quiet: bool) -> bool:
    """Run it and show how it goes; gives whether all went well."""
    from rich.console import Console

    from kdzoo.bench.single import perform
    from kdzoo.bench.trackers import check_trackers
    from kdzoo.cli.data import check_images
    from kdzoo.cli.plugins import warn_of_broken
    from kdzoo.cli.progress import PlainReport, make_report
    from kdzoo.cli.running import show_failures
    from kdzoo.matrix import cell_title

    warn_of_broken(lab.registry)
    check_trackers(lab.log_with, [name for plugin in lab.registry.plugins for name in plugin.trackers])
    if lab.world.size == 1 and any(lab.store.state(each.id) != "done" for each in task.cells):
        # Ranks that wait longer than their launcher allows would give up; a damaged image fails their cell.
        check_images([lab.data[task.cells[-1].data]], partial(typer.echo, err=True))
    silent = PlainReport(task.cells, Console(stderr=True, quiet=True))
    with nullcontext(silent) if quiet else make_report(task.cells) as report:
        lab.say_with(report.say)
        record = perform(task, lab, report)
    show_failures([record], lab.registry)
    typer.echo(f"{cell_title(record.cell)}: {_result(record)}; see {lab.store.folder(record.id) / 'record.json'}")
    return record.status != "failed"


def _result(record: Record) -> str:
    if record.status != "done":
        return f"{record.status} ({record.reason})"
    if record.test is None:
        return f"{record.tune.top1:.2f}% on tune" if record.tune else record.status
    return f"{record.test.top1:.2f}% on test"
