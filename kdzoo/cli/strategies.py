"""``kdzoo strategies``: the table of strategies, and the card of one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tabulate import tabulate

from kdzoo.cli.plugins import warn_of_broken
from kdzoo.foreign import story

if TYPE_CHECKING:
    from kdzoo.declarations import Declared
    from kdzoo.registry import Registered, Registry
    from kdzoo.strategy import Strategy

app = typer.Typer(help="List the strategies, or show one.", invoke_without_command=True)

PluginFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="A Python file with strategies.")
]


@app.callback()
def strategies(context: typer.Context, plugin: PluginFiles = None) -> None:
    """List the strategies, or show one with [bold]show NAME[/bold].

    NAME+NAME is a combination: the sum of both losses.
    """
    context.obj = plugin
    if context.invoked_subcommand is not None:
        return
    typer.echo(_from_registry(plugin or (), table))


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="NAME, NAME+NAME, or DISTRIBUTION:NAME.")],
    plugin: PluginFiles = None,
    code: Annotated[
        bool, typer.Option("--code", metavar="", help="Print where it comes from, and its source code.")
    ] = False,
) -> None:
    """Print a strategy's whole card, or its code."""

    def text(registry: Registry) -> str:
        entry = registry.strategy(name)
        return "\n\n".join(source(one) for one in entry.sources) if code else card(entry)

    typer.echo(_from_registry(plugin or context.obj or (), text))


def _from_registry(files: Sequence[Path], text: Callable[[Registry], str]) -> str:
    """A text about strategies: from what is known of them, or else from the loaded plugins."""
    from kdzoo.errors import KdzooError
    from kdzoo.known import Known, NotKnownError
    from kdzoo.registry import Registry

    cache = Known.open(files)
    try:
        return text(Registry.from_cache(cache))
    except (NotKnownError, KdzooError):
        found = text(Registry.load(files, cache))
        cache.save()
        return found


def table(registry: Registry) -> str:
    """All strategies, one a line."""
    warn_of_broken(registry)
    entries = sorted(registry.strategies, key=lambda entry: (entry.declared.family, entry.name))
    rows = [
        [
            entry.name,
            entry.declared.family,
            _paper(entry.declared),
            _signals(entry.declared),
            ", ".join(f"{name}={spec.default}" for name, spec in entry.declared.params.items()),
            entry.plugin.distribution,
        ]
        for entry in entries
    ]
    return tabulate(rows, headers=["name", "family", "paper", "signals", "parameters", "from"])


def source(entry: Registered[type[Strategy]]) -> str:
    """Where a strategy comes from (distribution, file, lines), and the text of its class."""
    kind, plugin = entry.value, entry.plugin
    title = f"{entry.name}, from {plugin.distribution} {plugin.version}"
    try:
        file, (lines, first) = inspect.getsourcefile(kind), inspect.getsourcelines(kind)
    except (OSError, TypeError):
        return f"{title}: no source code: {kind.__module__}.{kind.__qualname__} was defined without a file"
    text = "".join(lines).rstrip()
    return f"{title}\n{file}, lines {first} to {first + len(lines) - 1}\n\n{text}"


def card(entry: Registered[type[Strategy]]) -> str:
    """A strategy's card: paper, signals, parameters, and what its author writes of it."""
    kind = entry.declared
    lines = [f"{entry.name} ({kind.family}), from {entry.plugin.distribution} {entry.plugin.version}", ""]
    for one in entry.sources:
        lines += _reference(one.declared)
    lines += [story(kind.doc), "", f"Signals: {_signals(kind)}", ""]
    cited = {
        (f"{one.name}.{name}" if entry.parts else name): one.declared.paper
        for one in entry.sources
        for name in one.declared.params
    }
    rows: list[list[Any]] = [
        [
            param,
            spec.default,
            (spec.default if spec.paper is None else spec.paper) if cited.get(param) and spec.in_paper else "-",
            spec.default if spec.imagenet is None else spec.imagenet,
            spec.valid,
            _search(spec.search, spec.log),
            spec.help,
        ]
        for param, spec in kind.params.items()
    ]
    headers = ["parameter", "default", "paper", "ImageNet", "valid", "tuned over", "meaning"]
    lines += [tabulate(rows, headers=headers, disable_numparse=True) if rows else "No parameters."]
    sources = [f"- {name}: {spec.source}" for name, spec in kind.params.items() if spec.source]
    lines += ["", "Where the values come from:", *sources] if sources else []
    return "\n".join(lines)


def _reference(kind: Declared) -> list[str]:
    if not kind.paper:
        return []
    paper = kind.paper
    venue = paper.venue if str(paper.year) in paper.venue else f"{paper.venue}, {paper.year}"
    where = f"arXiv:{paper.id}" if paper.id[:4].isdigit() else paper.id
    lines = [f"{paper.authors}. {paper.title}. {venue}. {where}"]
    return [*lines, *([f"Authors' code: {paper.code}"] if paper.code else []), ""]


def _search(search: tuple[float, float] | None, log: bool) -> str:
    return f"{search[0]:g} to {search[1]:g}{' (log)' if log else ''}" if search else "not tuned"


def _paper(kind: Declared) -> str:
    if kind.paper is None:
        return "-"
    first = kind.paper.authors.split(",")[0].split(" and ")[0]
    return f"{first.split()[-1]} {kind.paper.year}"


def _signals(kind: Declared) -> str:
    text = ", ".join(kind.signals) or "none"
    if kind.teacher_signals is not None and set(kind.teacher_signals) != set(kind.signals):
        text += f"; of the teacher: {', '.join(kind.teacher_signals) or 'none'}"
    return f"{text}; a modifier" if kind.modifies else text
