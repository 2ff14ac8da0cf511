"""``kdzoo plugins``: what is installed, what it brings, and what failed to load."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tabulate import tabulate

if TYPE_CHECKING:
    from kdzoo.plugins import Plugin
    from kdzoo.registry import Registry

_NONE = "-"
_RARE = ("models", "trackers", "events")  # columns that are left out where they say nothing
_WIDE = ("strategies", "datasets", *_RARE)


def plugins(
    plugin: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A Python file with strategies; may be repeated.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", metavar="", help="Print the tracebacks of plugins that failed.")
    ] = False,
) -> None:
    """List the plugins: distribution, version, what each registers, and why any failed to load.

    Column api: the version of kdzoo's API that the plugin was written for.
    """
    from kdzoo.plugins import load_plugins

    found = load_plugins(plugin or ())
    columns = {
        "plugin": [one.name for one in found],
        "distribution": [one.distribution for one in found],
        "version": [one.version for one in found],
        "strategies": [_listed(strategy.name for strategy in one.strategies) for one in found],
        "datasets": [_listed(dataset.name for dataset in one.datasets) for one in found],
        "models": [_listed(one.models) for one in found],
        "trackers": [_listed(one.trackers) for one in found],
        "events": [_listed(name.removeprefix("kdzoo_") for name in one.events) for one in found],
        "api": [one.api or "undeclared" for one in found],
        "state": [_state(one) for one in found],
    }
    for name in _RARE:
        if set(columns[name]) <= {_NONE}:
            del columns[name]
    widths = [40 if name in _WIDE else None for name in columns]
    rows = list(zip(*columns.values(), strict=True))
    typer.echo(tabulate(rows, headers=list(columns), disable_numparse=True, maxcolwidths=widths))
    for one in found:
        if one.error:
            typer.echo(f"\n{one.name} ({one.distribution} {one.version}) failed to load: {one.error}")
            if verbose:
                typer.echo(one.traceback.rstrip())


def warn_of_broken(registry: Registry) -> None:
    """Name each plugin that could not be loaded, on standard error: what it would have brought is missing.

    And those that changed the process when they were loaded.
    """
    for one in registry.plugins:
        if one.changed:
            typer.echo(f"warning: plugin {one.name} ({one.distribution} {one.version}) {one.changed}", err=True)
        if one.error:
            typer.echo(
                f"warning: plugin {one.name} ({one.distribution} {one.version}) is left out: {one.error}", err=True
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or _NONE


def _state(plugin: Plugin) -> str:
    if plugin.error:
        return "failed"
    return "empty" if plugin.is_empty else "ok"
