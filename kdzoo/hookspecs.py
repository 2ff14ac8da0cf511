"""The hooks that a plugin may implement. Announce the plugin by an entry point in the group ``kdzoo``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from kdzoo.cell import Cell
    from kdzoo.data.dataset import Dataset
    from kdzoo.record import Record
    from kdzoo.record_parts import Epoch
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


@hookspec
def kdzoo_models() -> Iterable[str]:
    """The names of the timm models that this plugin registers, for ``--teacher`` and ``--student``.

    Called once in each process, before any model is looked up. Register the models inside it, by
    ``timm.models.register_model``, or by importing a module that does. A name that timm or another plugin has already
    is refused, also outside of this hook, and means what it meant before: a cell is named by its models' names, so each
    must mean one network.
    """
    return ()


@hookspec
def kdzoo_trackers() -> Iterable[type[Any]]:
    """The trackers that this plugin offers, for ``--log-with``.

    Called once in each process. A tracker is a subclass of ``accelerate.tracking.GeneralTracker`` with a name. One is
    made for each cell, with the run's name and, where it has ``requires_logging_directory``, a folder of the cell.
    """
    return ()


@hookspec
def kdzoo_cell_started(cell: Cell) -> None:
    """A cell is about to be trained, or taken up again after a stop; not called for a cell that is found done.

    Args:
        cell: what is trained, a copy: students, teachers, assistants and trials of tuning alike; ``cell.kind`` tells.
    """


@hookspec
def kdzoo_epoch_ended(cell: Cell, epoch: Epoch) -> None:
    """An epoch of a cell is trained, measured on tune where that was asked after it, and kept in a checkpoint.

    After a stop the epochs that are kept are not told again.

    Args:
        cell: what is trained, a copy.
        epoch: its number, phase, loss terms, learning rate and main measure on tune.
    """


@hookspec
def kdzoo_record_written(record: Record) -> None:
    """A cell has ended, done, pruned or failed, and its record is in the store.

    Args:
        record: the result with everything that was measured, and the cell in it; a copy.
    """
