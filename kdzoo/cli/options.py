"""The options that ``kdzoo bench`` and ``kdzoo tune`` share, and the configuration that they give."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_type_hints

import typer

from kdzoo.flags import OPTIONS, Option

if TYPE_CHECKING:
    from kdzoo.config import BenchConfig

Options: TypeAlias = dict[str, Any]
"""The shared options by name, as the command line gave them."""

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", metavar="", help="Show the cells and pairs, train nothing.", rich_help_panel=OPTIONS["out"].panel
    ),
]


def _parameter(option: Option) -> inspect.Parameter:
    """The parameter of a command that takes an option."""
    kind: Any = list[option.kind] if option.many else option.kind  # type: ignore[name-defined]
    flag = typer.Option(*option.spelled, help=option.help, metavar=option.metavar, rich_help_panel=option.panel)
    given = option.kind if option.default else kind | None
    where = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(option.name, where, default=option.default, annotation=Annotated[given, flag])


def bench_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options before its own; it gets them as its first argument, a dict by name."""
    return some_options(*(name for name, option in OPTIONS.items() if option.flag))(command)


def some_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What :func:`bench_options` does, with some of the shared options."""
    return lambda command: _with_options(command, names)


def _with_options(command: Callable[..., None], names: Sequence[str]) -> Callable[..., None]:
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        command(options, **given)

    shared, own = {name: _parameter(OPTIONS[name]) for name in names}, _parameters(command)
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
    return [name for name, value in options.items() if value not in (None, [], (), OPTIONS[name].default)]


def read_config(options: Options, defaults: Mapping[str, Any]) -> BenchConfig:
    """The configuration that the options ask for.

    Args:
        options: as the command line gave them.
        defaults: keys for where neither options nor the bench file say anything.

    Raises:
        UsageError: one is wrong.
    """
    from kdzoo.config import load_bench, parse_ranges, parse_settings

    flags = {name: value for name, value in options.items() if name not in ("config", "plugin", "set", "search")}
    flags["set"] = parse_settings(options["set"]) if options["set"] else None
    flags["search"] = parse_ranges(options["search"]) if options["search"] else None
    return load_bench(options["config"], flags, defaults)
