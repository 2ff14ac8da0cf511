"""The strategy my-strategy, which kdzoo finds by the entry point in pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdzoo import hookimpl

if TYPE_CHECKING:
    from kdzoo import Strategy

# The version of kdzoo's plugin interface that this package is written for.
kdzoo_api = "1.3"


@hookimpl
def kdzoo_strategies() -> Iterable[type[Strategy]]:
    """The strategies of this package; torch is imported here, so that kdzoo starts fast."""
    from .strategy import MyStrategy

    return [MyStrategy]
