"""Tells plugins and trackers how cells go, in the process that runs them. What they do wrong harms no cell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kdzoo import foreign
from kdzoo.cell import Cell
from kdzoo.engine.course import Watch
from kdzoo.errors import raise_if_interrupted
from kdzoo.plugins import Plugin
from kdzoo.process_state import ProcessState
from kdzoo.record import Record
from kdzoo.record_parts import Epoch


class Listener(Protocol):
    """Who is told of a run; each is called in the process that runs the cell."""

    def cell_started(self, cell: Cell) -> None:
        """A cell is about to be trained, or taken up again."""

    def epoch_ended(self, cell: Cell, epoch: Epoch) -> None:
        """An epoch is trained, measured and kept."""

    def record_written(self, record: Record) -> None:
        """A cell has ended, and its record is kept."""


class Reporter(Protocol):
    """Who shows a bench to a person. Several cells may run at a time."""

    def cell(self, cell: Cell) -> Watch:
        """A cell is about to run; what is given back watches its training."""

    def passed(self, cell: Cell) -> None:
        """Another process runs this cell; its turn comes again at the end."""

    def waiting(self, cell: Cell) -> None:
        """Another process runs this cell, and its result is waited for."""

    def done(self, record: Record) -> None:
        """A cell has its record."""

    def lost(self, cell: Cell, reason: str) -> None:
        """The process that ran a cell died; another one goes on with it. Told only where cells have their own."""


@dataclass(frozen=True)
class Named:
    """A listener, what it is called in a warning, and where its code stands."""

    title: str
    listener: Listener
    homes: tuple[Path, ...] = ()


class Hooks:
    """The hooks of one plugin, as a listener. Each call is given copies, so that nobody changes what others see."""

    def __init__(self, plugin: Plugin) -> None:
        self._hooks = plugin.events

    def cell_started(self, cell: Cell) -> None:
        """Call the hook of that name."""
        self._call("kdzoo_cell_started", cell=cell)

    def epoch_ended(self, cell: Cell, epoch: Epoch) -> None:
        """Call the hook of that name."""
        self._call("kdzoo_epoch_ended", cell=cell, epoch=epoch)

    def record_written(self, record: Record) -> None:
        """Call the hook of that name."""
        self._call("kdzoo_record_written", record=record)

    def _call(self, name: str, **values: Any) -> None:
        if name in self._hooks:
            self._hooks[name](**{key: value.model_copy(deep=True) for key, value in values.items()})


def hooks_of(plugins: Sequence[Plugin]) -> list[Named]:
    """The plugins that want to be told of a run."""
    return [
        Named(f"plugin {plugin.name} ({plugin.distribution} {plugin.version})", Hooks(plugin), plugin.homes)
        for plugin in plugins
        if plugin.events
    ]


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


class Events:
    """Tells all listeners. What one raises is told in one line, once for each listener and event, and nothing more.

    Args:
        listeners: who is told, in this order.
        warn: where the lines go; by default to standard error.
    """

    def __init__(self, listeners: Sequence[Named], warn: Callable[[str], None] = _warn) -> None:
        self._listeners = tuple(listeners)
        self._warn = warn
        self._reported: set[tuple[str, str]] = set()

    def cell_started(self, cell: Cell) -> None:
        """See :class:`Listener`."""
        self._tell("cell_started", cell)

    def epoch_ended(self, cell: Cell, epoch: Epoch) -> None:
        """See :class:`Listener`."""
        self._tell("epoch_ended", cell, epoch)

    def record_written(self, record: Record) -> None:
        """See :class:`Listener`."""
        self._tell("record_written", record)

    def watching(self, cell: Cell, watch: Watch) -> Watch:
        """A watch of a cell's training that tells of its epochs too."""
        return _Watching(self, cell, watch)

    def _tell(self, event: str, *values: Cell | Epoch | Record) -> None:
        for named in self._listeners:
            # A tracker may keep variables and streams of its own; what changes numbers is nobody's to change.
            state, faults = ProcessState.now(plain=isinstance(named.listener, Hooks)), list[str]()
            try:
                getattr(named.listener, event)(*values)
            except BaseException as error:
                raise_if_interrupted(error)
                # Somebody else's code, which must not cost the cell; that it failed is told, and so it is not silent.
                faults.append(f"failed, which changes no result: {foreign.sentence(error, named.homes)}")
            state.put_back()
            if faults or state.changed:
                self._report(named, event, "; it ".join([*faults, *filter(None, [state.summary()])]))

    def _report(self, named: Named, event: str, text: str) -> None:
        if (named.title, event) in self._reported:
            return
        self._reported.add((named.title, event))
        hook = f"kdzoo_{event}" if isinstance(named.listener, Hooks) else event
        self._warn(f"{named.title}: {hook} {text}")


class _Watching:
    """Hands on what a training tells, and tells of its epochs."""

    def __init__(self, events: Events, cell: Cell, watch: Watch) -> None:
        self._events, self._cell, self._watch = events, cell, watch

    def step(self, epoch: int, done: int, steps: int) -> None:
        self._watch.step(epoch, done, steps)

    def epoch(self, line: Epoch, epochs: int) -> None:
        self._watch.epoch(line, epochs)
        self._events.epoch_ended(self._cell, line)
