"""``kdzoo bench``: from a pair to a board."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdzoo.errors import UsageError

if TYPE_CHECKING:
    from kdzoo.bench.plan import BenchPlan
    from kdzoo.config import BenchConfig
    from kdzoo.record import Record
    from kdzoo.registry import Registry

_WHAT, _HOW, _WHERE = "What to compare", "How to train", "Where and when"


def bench(
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Strategies, a comma list, or all. ce is always added.", metavar="NAMES", rich_help_panel=_WHAT
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="timm models, a comma list; arguments as in NAME:patch_size=4.",
            metavar="MODELS",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    student: Annotated[
        str | None, typer.Option(help="timm models, a comma list.", metavar="MODELS", rich_help_panel=_WHAT)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Datasets, a comma list; NAME[:5000] takes a subset.", metavar="NAMES", rich_help_panel=_WHAT
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Trainings of each strategy, each from a seed of its own; by default 3.",
            metavar="N",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    config: Annotated[
        str,
        typer.Option(
            help="A shipped bench or a YAML file; flags win over it.", metavar="NAME|FILE", rich_help_panel=_WHAT
        ),
    ] = "quick",
    plugin: Annotated[
        list[Path] | None,
        typer.Option(help="A Python file with strategies; may be repeated.", metavar="FILE", rich_help_panel=_WHAT),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A shipped recipe or a YAML file.", metavar="NAME|FILE", rich_help_panel=_HOW)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of each training.", metavar="N", rich_help_panel=_HOW)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="strategy.param=value or recipe.key=value; may be repeated.",
            metavar="KEY=VALUE",
            rich_help_panel=_HOW,
        ),
    ] = None,
    teacher_weights: Annotated[
        str | None,
        typer.Option(
            help="auto (the default), train, pretrained, or a file of weights.",
            metavar="KIND|FILE",
            rich_help_panel=_HOW,
        ),
    ] = None,
    teacher_recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe of the teacher's training; by default the students'.",
            metavar="NAME|FILE",
            rich_help_panel=_HOW,
        ),
    ] = None,
    teacher_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the teacher's training.", metavar="N", rich_help_panel=_HOW)
    ] = None,
    img_size: Annotated[
        str | None,
        typer.Option(help="Size of the images, pixels: 32 or 32x48.", metavar="PIXELS", rich_help_panel=_HOW),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16.", metavar="KIND", rich_help_panel=_HOW)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto (the default), cpu, cuda or mps.", metavar="KIND", rich_help_panel=_WHERE)
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder of the data.", metavar="FOLDER", rich_help_panel=_WHERE)
    ] = None,
    download: Annotated[
        bool | None, typer.Option("--download", metavar="", help="Fetch missing data.", rich_help_panel=_WHERE)
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder of the runs; by default runs.", metavar="FOLDER", rich_help_panel=_WHERE)
    ] = None,
    rerun: Annotated[
        str | None,
        typer.Option(
            help="Finished cells to run again: never, failed (the default) or always.",
            metavar="WHICH",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", metavar="", help="Show the cells and pairs, train nothing.", rich_help_panel=_WHERE),
    ] = False,
) -> None:
    """Train students with each strategy, on the same seeds, and print the board.

    Finished cells are kept in --out and found again: the same command resumes what was stopped.

    [dim]kdzoo bench --strategies soft,fitnets --teacher resnet101 --student resnet18[/dim]
    """
    from kdzoo.config import load_bench, parse_settings

    flags: dict[str, Any] = {
        "strategies": strategies,
        "teacher": teacher,
        "student": student,
        "dataset": dataset,
        "seeds": seeds,
        "recipe": recipe,
        "epochs": epochs,
        "set": parse_settings(set_) if set_ else None,
        "teacher_weights": teacher_weights,
        "teacher_recipe": teacher_recipe,
        "teacher_epochs": teacher_epochs,
        "img_size": img_size,
        "precision": precision,
        "device": device,
        "data_dir": data_dir,
        "download": download,
        "out": out,
        "rerun": rerun,
    }
    settings = load_bench(config, flags)

    from kdzoo.store import Store

    store = Store.check(Path(settings.out))

    from kdzoo.bench.plan import make_plan
    from kdzoo.cli.plugins import warn_of_broken
    from kdzoo.registry import Registry

    registry = Registry.load(plugin or ())
    warn_of_broken(registry)
    plan = make_plan(settings, registry)
    for cell in plan.cells:
        store.state(cell.id)  # a record that cannot be read is told now, not when its turn comes
    from kdzoo.cli.dryrun import show_plan, show_refused

    show_refused(plan)
    if dry_run:
        show_plan(plan, store)
        return
    if not any(cell.strategy.name != "ce" for cell in plan.cells) and plan.refused:
        raise UsageError("no strategy of this bench can serve its pairs")
    records = _run(plan, registry, settings)
    _show_board(plan, records)
    show_refused(plan)
    if plan.refused or any(record.status == "failed" for record in records):
        raise typer.Exit(1)


def _run(plan: BenchPlan, registry: Registry, settings: BenchConfig) -> list[Record]:
    from kdzoo.bench.lab import Lab
    from kdzoo.bench.local import run_cells
    from kdzoo.cli.progress import make_report
    from kdzoo.store import Store

    lab = Lab(
        store=Store.create(Path(settings.out)),
        registry=registry,
        device=plan.device,
        data=plan.data,
        files=plan.files,
        command=shlex.join(["kdzoo", *sys.argv[1:]]),
    )
    try:
        with make_report(plan.cells) as report:
            return run_cells(plan.cells, lab, report, settings.rerun)
    except KeyboardInterrupt:
        typer.echo("\nStopped. Finished epochs are kept: run the same command again to go on.", err=True)
        raise typer.Exit(130) from None


def _show_board(plan: BenchPlan, records: list[Record]) -> None:
    from kdzoo.board.render import board_text

    typer.echo(board_text(records, plan.cells), nl=False)
