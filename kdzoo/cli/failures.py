"""Where a plugin's code failed, shown after a bench: from the plugin's own lines on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from kdzoo.record import Record
    from kdzoo.registry import Registry

_LINE = re.compile(r"\([^()\s]+\.py:\d+\)\Z")


def show_failures(records: Iterable[Record], registry: Registry) -> None:
    """Print, on standard error, the tracebacks of cells that failed in their strategy's code, each kind of them once.

    The records keep the whole tracebacks.

    Args:
        records: of a bench.
        registry: the loaded plugins.
    """
    from kdzoo.blame import from_plugin

    shown: set[tuple[str, str]] = set()
    for record in records:
        strategy = record.cell.strategy
        told = (strategy.name, record.reason)
        if record.status != "failed" or told in shown or not _LINE.search(record.reason):
            continue
        shown.add(told)
        homes = registry.of(strategy).homes
        typer.echo(
            f"\n{strategy.name} failed: {record.reason}\n{from_plugin(record.traceback, homes)}", err=True, nl=False
        )
