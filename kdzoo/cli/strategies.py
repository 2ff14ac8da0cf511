"""``kdzoo strategies``: the table of strategies, and the card of one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tabulate import tabulate
from typer.core import TyperGroup

from kdzoo.cli.plugins import warn_of_broken
from kdzoo.foreign import story

if TYPE_CHECKING:
    from kdzoo.declarations import Declared, Signal
    from kdzoo.registry import Registered, Registry
    from kdzoo.strategy import Strategy

_MOST_COST = 42
"""Characters of a cost in the table."""


class _Strategies(TyperGroup):
    """The commands under ``kdzoo strategies``; a strategy in the place of one is answered with the command to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names."""
        word = args[0] if args else ""
        if word and not word.startswith("-") and word not in self.commands:
            from kdzoo.errors import UsageError

            meant = get_close_matches(word, self.commands)
            raise UsageError(
                f"unknown command {word!r}; did you mean {meant[0]}?"
                if meant
                else f"unknown command {word!r}; to print the card: kdzoo strategies show {word}"
            )
        return super().resolve_command(ctx, args)


strategies_app = typer.Typer(cls=_Strategies, help="List the strategies, or show one.", invoke_without_command=True)

PluginFiles = Annotated[
    list[Path] | None, typer.Option("--plugin", metavar="FILE", help="A Python file with strategies.")
]


@strategies_app.callback()
def strategies(
    context: typer.Context,
    plugin: PluginFiles = None,
    needs: Annotated[
        str, typer.Option(metavar="SIGNALS", help="Only those that need no other signals, such as logits,embedding.")
    ] = "",
) -> None:
    """List the strategies by family, or show one with [bold]show NAME[/bold].

    NAME+NAME is a combination: the sum of both losses. The column "adds" marks strategies that train a second student,
    train other networks before the student, or leave modules in the student.
    """
    context.obj = plugin
    if context.invoked_subcommand is not None:
        return
    signals = read_signals(needs)
    typer.echo(_from_registry(plugin or (), lambda registry: table(registry, signals)))


def read_signals(text: str) -> frozenset[Signal]:
    """The signals in a comma-separated text; all of them where it is empty.

    Raises:
        UsageError: one is unknown.
    """
    from kdzoo.declarations import SIGNALS
    from kdzoo.errors import UsageError, unknown

    names = [name.strip() for name in text.split(",")] if text else SIGNALS
    if wrong := [name for name in names if name not in SIGNALS]:
        raise UsageError(unknown("signal", wrong[0], SIGNALS))
    return frozenset(signal for signal in SIGNALS if signal in names)


@strategies_app.command()
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


def table(registry: Registry, signals: Collection[Signal]) -> str:
    """The strategies that need no other signals than these, family by family, the oldest paper first."""
    warn_of_broken(registry)
    found = [entry for entry in registry.strategies if _needed(entry.declared) <= set(signals)]
    entries = sorted(found, key=lambda entry: (entry.declared.family, _year(entry.declared), entry.name))
    rows, family = [], ""
    for entry in entries:
        kind = entry.declared
        shown, family = "" if kind.family == family else kind.family, kind.family
        what = [shown, entry.name, _year(kind), _signals(kind), _adds(kind)]
        rows.append([*what, cost(kind.doc), entry.plugin.distribution])
    headers = ["family", "name", "year", "needs", "adds", "cost", "from"]
    return tabulate(rows, headers=headers, disable_numparse=True)


def _needed(kind: Declared) -> set[Signal]:
    return {*kind.signals, *(kind.teacher_signals or ())}


def _year(kind: Declared) -> str:
    return str(kind.paper.year) if kind.paper else ""


_COST = re.compile(r"^Cost: (.+?)(?:[.;]\s|\.?\Z|\n\n)", re.MULTILINE | re.DOTALL)


def cost(card: str) -> str:
    """What a card says of the cost, up to its first full stop or semicolon; empty where it says nothing."""
    found = _COST.search(card)
    return shorten(" ".join(found[1].split()), _MOST_COST, placeholder=" ...") if found else ""


def _adds(kind: Declared) -> str:
    """What a strategy trains beside the student, or leaves in it."""
    found = {"second student": kind.peer, "trainings": kind.hops, "modules": bool(kind.deployed)}
    return ", ".join(word for word, there in found.items() if there)


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
    adapted = {
        f"{one.name}.{name}" if entry.parts else name
        for one in entry.sources
        if any(spec.imagenet is not None for spec in one.declared.params.values())
        for name in one.declared.params
    }
    rows: list[list[Any]] = [
        [
            param,
            spec.default,
            (spec.default if spec.paper is None else spec.paper) if cited.get(param) and spec.in_paper else "-",
            (spec.default if spec.imagenet is None else spec.imagenet) if param in adapted else "-",
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


def _signals(kind: Declared) -> str:
    text = ", ".join(kind.signals) or "none"
    if kind.peer:
        text += "; of the teacher: none"
    elif kind.teacher_signals is not None and set(kind.teacher_signals) != set(kind.signals):
        text += f"; of the teacher: {', '.join(kind.teacher_signals) or 'none'}"
    return f"{text}; a modifier" if kind.modifies else text
