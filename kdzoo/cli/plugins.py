"""``kdzoo plugins``: what is installed, what it brings, and what failed to load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tabulate import tabulate

if TYPE_CHECKING:
    from kdzoo.plugins import Plugin
    from kdzoo.registry import Registry


def plugins(
    plugin: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A Python file with strategies; may be repeated.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", metavar="", help="Print where a plugin failed.")] = False,
) -> None:
    """List the plugins: distribution, version, what each registers, and why one failed to load."""
    from kdzoo.plugins import load_plugins

    found = load_plugins(plugin or ())
    rows = [
        [
            one.name,
            one.distribution,
            one.version,
            ", ".join(strategy.name for strategy in one.strategies) or "-",
            ", ".join(dataset.name for dataset in one.datasets) or "-",
            _state(one),
        ]
        for one in found
    ]
    headers = ["plugin", "distribution", "version", "strategies", "datasets", "state"]
    typer.echo(tabulate(rows, headers=headers, disable_numparse=True, maxcolwidths=[None, None, None, 40, 40, None]))
    for one in found:
        if one.error:
            typer.echo(f"\n{one.name} ({one.distribution} {one.version}) failed to load: {one.error}")
            if verbose:
                typer.echo(one.traceback.rstrip())


def warn_of_broken(registry: Registry) -> None:
    """Name each plugin that could not be loaded, on standard error: what it would have brought is missing."""
    for one in registry.plugins:
        if one.error:
            typer.echo(
                f"warning: plugin {one.name} ({one.distribution} {one.version}) is left out: {one.error}", err=True
            )


def _state(plugin: Plugin) -> str:
    if plugin.error:
        return "failed"
    return "ok" if plugin.strategies or plugin.datasets else "empty"
