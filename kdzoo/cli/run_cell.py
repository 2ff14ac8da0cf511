"""``kdzoo run-cell``: planned cells, or those of published records, by themselves."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdzoo.cli.options import Options, some_options

if TYPE_CHECKING:
    import torch

    from kdzoo.bench.lab import Lab
    from kdzoo.bench.single import Task
    from kdzoo.engine.world import World
    from kdzoo.record import Record


@some_options(
    *("out", "rerun", "device", "data_dir", "download", "eval_every", "compile", "trust_teacher"),
    *("bank", "bank_budget", "bank_dtype", "log_with", "plugin"),
)
def train_cells(
    options: Options,
    cells: Annotated[
        list[str],
        typer.Argument(
            help="ID (or its first characters) of a planned cell, or path of a published record.",
            metavar="ID|RECORD",
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Dataset to open if the name in the cell does not work here: folder:PATH.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    teacher_weights: Annotated[
        Path | None,
        typer.Option(help="Weight file of its teacher, if the cell was planned with a weight file.", metavar="FILE"),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a model of its pair, if that was planned as local-dir:; may be repeated.",
            metavar="FOLDER",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", metavar="", help="Show no progress.")] = False,
) -> None:
    """Train single cells, and before each its teacher if that is not trained yet.

    The cell of a published record is retrained in --out and compared with the record.

    Under a launcher, all its processes train the cell together: each batch is divided among them, and the result is
    that of one process. See docs/scaling.md.

    [dim]kdzoo run-cell 3f2a[/dim]

    [dim]kdzoo run-cell leaderboards/records/digits/resnet10t--test_resnet/*.json --out again[/dim]

    [dim]accelerate launch --multi_gpu --num_processes 4 --module kdzoo run-cell 3f2a[/dim]
    """
    from kdzoo.bench.single import follow, together
    from kdzoo.config import load_bench
    from kdzoo.engine.devices import pick_device
    from kdzoo.engine.world import World, check_launcher

    check_launcher()
    flags = {name: value for name, value in options.items() if name != "plugin"}
    device = pick_device(load_bench("quick", flags).device)
    files = {"dataset": dataset, "teacher_weights": teacher_weights, "models": model or ()}
    world = World.join(device)
    done = True
    try:
        with together(world):
            for cell in cells:
                task = world.lead(partial(_plan, flags, cell, world, device, plugins=options["plugin"] or (), **files))
                lab = task.settings.make()
                lab.train_in(world)
                done &= _lead(task, lab, quiet=quiet) if world.leads else follow(task, lab)
    except KeyboardInterrupt:
        typer.echo("\nStopped. Finished epochs are kept: run the same command again to resume.", err=True)
        raise typer.Exit(130) from None
    if not done:
        raise typer.Exit(1)


def _plan(flags: Options, named: str, world: World, device: torch.device, **here: Any) -> Task:
    """What is to be done for a cell; ``here`` says where this machine has what the cell needs."""
    from kdzoo.bench.single import find_cell, plan_task, read_record_file
    from kdzoo.config import load_bench, parse_bytes
    from kdzoo.engine.bank.spec import BankSettings
    from kdzoo.engine.devices import check_compiler
    from kdzoo.store import Store

    record = read_record_file(Path(named)) if named.endswith(".json") else None
    settings = load_bench("quick", flags, settings_of(record) if record else None)
    out = Path(settings.out)
    asked = record or find_cell(Store.open(out), named)
    if settings.compile:
        check_compiler(device)
    bank = BankSettings(
        mode=settings.bank,
        budget=parse_bytes(settings.bank_budget),
        dtype=settings.bank_dtype,
        shared=world.size > 1,
    )
    vouched = record is not None and record.teacher is not None and record.teacher.vouched
    return plan_task(
        Store.create(out, partial(typer.echo, err=True)),
        asked,
        world,
        settings.rerun,
        device=device,
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        download=settings.download,
        others={
            "command": shlex.join(["kdzoo", *sys.argv[1:]]),
            "log_with": settings.log_with,
            "bank": bank,
            "eval_every": settings.eval_every,
            "compile": settings.compile,
            "trust_teacher": settings.trust_teacher or vouched,
        },
        **here,
    )


def settings_of(record: Record) -> dict[str, Any]:
    """The keys of a bench's configuration that no cell names and that can change the last digits of its result."""
    where = record.environment
    kind, _, read = where.bank.partition(": ")
    types = [entry.rpartition(" ")[2] for entry in read.partition("; ")[0].split(", ") if entry != "logits float32"]
    found: dict[str, Any] = {"bank": kind or "off", "compile": where.compiled}
    return found | ({"bank_dtype": types[0]} if kind and types else {})


def _lead(task: Task, lab: Lab, *, quiet: bool) -> bool:
    """Run it and show how it goes; gives whether all went well."""
    from rich.console import Console

    from kdzoo.bench.single import run_task
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
        record = run_task(task, lab, report)
    show_failures([record], lab.registry)
    typer.echo(f"{cell_title(record.cell)}: {_result(record)}; see {lab.store.folder(record.id) / 'record.json'}")
    if task.record and record.id == task.record.id and record.status == "done":
        typer.echo(_compared(task.record, record))
    return record.status != "failed"


def _compared(published: Record, made: Record) -> str:
    """Whether a record that was made again measured the same."""
    from kdzoo.leaderboard.check.groups import differences, differences_text

    names = {"status", "tune", "test", "curve", "student", "adapter_parameters"}
    first, second = (one.model_dump(mode="json", include=names) for one in (published, made))
    if first == second:
        return "The result equals the given record."
    found = differences(first, second, declared=published.measures)
    if found:
        return f"The result differs from the given record: {differences_text(found)}."
    return "The result differs only in the last digits."


def _result(record: Record) -> str:
    if record.status != "done":
        return f"{record.status} ({record.reason})"
    main = record.main
    if record.test is None:
        return f"{main.text(record.tune[main.name])} on tune" if record.tune else record.status
    return f"{main.text(record.test[main.name])} on test"
