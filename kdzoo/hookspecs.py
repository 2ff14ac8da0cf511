"""The hooks that a plugin may implement. Announce the plugin by an entry point in the group ``kdzoo``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from kdzoo.data.dataset import Dataset
    from kdzoo.strategy import Strategy

hookspec = pluggy.HookspecMarker("kdzoo")


@hookspec
def kdzoo_strategies() -> Iterable[type[Strategy]]:
    """The strategy classes that this plugin offers.

    Called once, when strategies are first looked up; import torch inside it, not at the top of the plugin's module.
    """
    return ()


@hookspec
def kdzoo_datasets() -> Iterable[Dataset]:
    """The datasets that this plugin offers. Called once; load nothing before ``Dataset.load`` is called."""
    return ()
