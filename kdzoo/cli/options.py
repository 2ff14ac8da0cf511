"""The options that ``kdzoo bench`` and ``kdzoo tune`` share, and the configuration that they give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_type_hints

import typer

if TYPE_CHECKING:
    from kdzoo.config import BenchConfig

_WHAT, _HOW, _TUNE, _WHERE = "What to compare", "How to train", "Tuning", "Where and when"
_SCALE = "Several cells at a time"

Options: TypeAlias = dict[str, Any]
"""The shared options by name, as the command line gave them."""

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", metavar="", help="Show the cells and pairs, train nothing.", rich_help_panel=_WHERE),
]


def _options(
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Strategies, a comma list, or all; soft+at adds the terms of two. ce is always added.",
            metavar="NAMES",
            rich_help_panel=_WHAT,
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
            help="Datasets, a comma list; NAME[:5000] takes a subset. A backslash makes a comma or bracket a part of "
            "the name.",
            metavar="NAMES",
            rich_help_panel=_WHAT,
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
    teacher_input: Annotated[
        str | None,
        typer.Option(
            help="How a teacher from a file is shown images, over what the file tells: mean=0.5,std=0.5,size=32,"
            "crop=0.9,interpolation=bicubic.",
            metavar="KEY=VALUE,...",
            rich_help_panel=_HOW,
        ),
    ] = None,
    trust_teacher: Annotated[
        bool | None,
        typer.Option(
            "--trust-teacher",
            metavar="",
            help="Let a teacher teach that is not above chance; its records and the board say so.",
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
    student_init: Annotated[
        str | None,
        typer.Option(
            help="random (the default), or pretrained: students start from timm's weights, with a new head.",
            metavar="KIND",
            rich_help_panel=_HOW,
        ),
    ] = None,
    img_size: Annotated[
        str | None,
        typer.Option(help="Size of the images, pixels: 32 or 32x48.", metavar="PIXELS", rich_help_panel=_HOW),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16.", metavar="KIND", rich_help_panel=_HOW)
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            help="Views of each sample that the students' epochs cycle through; by default (0) each shows a new one.",
            metavar="K",
            rich_help_panel=_HOW,
        ),
    ] = None,
    eval_every: Annotated[
        int | None,
        typer.Option(
            help="Measure on tune after every K-th epoch and the last one; by default after each. No result changes.",
            metavar="K",
            rich_help_panel=_HOW,
        ),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile",
            metavar="",
            help="Run student and teacher through torch.compile, which takes minutes before the first step.",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(
            "--tune",
            "--trials",
            help="Trials of tuning for each strategy and pair; the winners are trained again on fresh seeds.",
            metavar="N",
            rich_help_panel=_TUNE,
        ),
    ] = None,
    tune_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of a trial; by default those of the training.", metavar="N", rich_help_panel=_TUNE),
    ] = None,
    tune_recipe: Annotated[
        str | None,
        typer.Option(
            help="Keys of the recipe that are searched too, for every strategy alike: lr, weight_decay, momentum, "
            "label_smoothing.",
            metavar="KEYS",
            rich_help_panel=_TUNE,
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="strategy.param=low:high[:log], over the declared range; may be repeated.",
            metavar="KEY=RANGE",
            rich_help_panel=_TUNE,
        ),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            help="What ends trials early: none (the default), median or hyperband.",
            metavar="KIND",
            rich_help_panel=_TUNE,
        ),
    ] = None,
    tune_batch: Annotated[
        int | None,
        typer.Option(
            help="Trials of a study that are asked for at a time, to run side by side; by default 1.",
            metavar="N",
            rich_help_panel=_TUNE,
        ),
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
            help="Finished cells to run again: never, safe (the default: failed ones that did not end their process), "
            "failed or always.",
            metavar="WHICH",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    log_with: Annotated[
        str | None,
        typer.Option(
            help="Trackers that log each cell, a comma list: tensorboard, wandb, mlflow, or a plugin's.",
            metavar="NAMES",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    bank: Annotated[
        str | None,
        typer.Option(
            help="Where the teacher's signals are kept for the cells that share them: auto (the default), ram, disk, "
            "or off.",
            metavar="KIND",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    bank_budget: Annotated[
        str | None, typer.Option(help="How much is kept; by default 4GiB.", metavar="SIZE", rich_help_panel=_WHERE)
    ] = None,
    bank_dtype: Annotated[
        str | None,
        typer.Option(
            help="Type of kept embeddings and stages: float16 (the default), bfloat16 or float32.",
            metavar="TYPE",
            rich_help_panel=_WHERE,
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Cells that run at a time, in processes that share the processors: a number (by default 1), or auto "
            "to measure.",
            metavar="N|auto",
            rich_help_panel=_SCALE,
        ),
    ] = None,
    lockstep: Annotated[
        int | None,
        typer.Option(
            help="Cells that may share each pass of a teacher that runs in the loop; by default 1.",
            metavar="N",
            rich_help_panel=_SCALE,
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            help="local (the default), ray for a Ray cluster, or command for COMMAND.",
            metavar="KIND",
            rich_help_panel=_SCALE,
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="The Ray cluster: auto, HOST:PORT or ray://HOST:PORT.", metavar="ADDRESS", rich_help_panel=_SCALE
        ),
    ] = None,
    shared_store: Annotated[
        bool | None,
        typer.Option(
            "--shared-store/--no-shared-store",
            help="Whether all machines see --out; otherwise results are sent back.",
            metavar="",
            rich_help_panel=_SCALE,
        ),
    ] = None,
    cpus_per_cell: Annotated[
        int | None,
        typer.Option(
            help="Processors that a cell asks of the cluster; by default 1.", metavar="N", rich_help_panel=_SCALE
        ),
    ] = None,
    gpus_per_cell: Annotated[
        float | None,
        typer.Option(
            help="GPUs that a cell asks of the cluster; by default 1 where there are any.",
            metavar="X",
            rich_help_panel=_SCALE,
        ),
    ] = None,
) -> None:
    """Never called: its signature holds the options."""


def bench_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options before its own; it gets them as its first argument, a dict by name."""
    return some_options(*_parameters(_options))(command)


def some_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What :func:`bench_options` does, with some of the shared options."""
    return lambda command: _with_options(command, names)


def _with_options(command: Callable[..., None], names: Sequence[str]) -> Callable[..., None]:
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        command(options, **given)

    known, own = _parameters(_options), _parameters(command)
    shared = {name: known[name] for name in names}
    own.pop("options")
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    # Typer reads both; the types are resolved here, because the names in them mean what they mean in their own module.
    run.__annotations__ = {name: one.annotation for name, one in {**shared, **own}.items()}
    both = sorted([*shared.values(), *own.values()], key=lambda one: one.default is not one.empty)
    run.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    return run


def _parameters(function: Callable[..., None]) -> dict[str, inspect.Parameter]:
    types = get_type_hints(function, include_extras=True)
    return {name: one.replace(annotation=types[name]) for name, one in inspect.signature(function).parameters.items()}


def given_options(options: Options) -> list[str]:
    """The names of the shared options that the command line gave another value than their own default."""
    defaults = {name: one.default for name, one in inspect.signature(_options).parameters.items()}
    return [name for name, value in options.items() if value not in (None, [], (), defaults[name])]


def read_config(options: Options, defaults: Mapping[str, Any]) -> BenchConfig:
    """The configuration that the options ask for.

    Args:
        options: as the command line gave them.
        defaults: keys for where neither options nor the bench file say anything.

    Raises:
        UsageError: one is wrong.
    """
    from kdzoo.config import load_bench, parse_ranges, parse_settings

    flags = {name: value for name, value in options.items() if name not in ("config", "plugin", "set_", "search")}
    flags["set"] = parse_settings(options["set_"]) if options["set_"] else None
    flags["search"] = parse_ranges(options["search"]) if options["search"] else None
    return load_bench(options["config"], flags, defaults)
