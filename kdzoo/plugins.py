"""Finds plugins. Keeps, for each, its distribution and version and, if it failed to load, why."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from kdzoo import api, foreign, offers
from kdzoo.errors import OddFileError, UsageError, os_reason, raise_if_interrupted
from kdzoo.files import MOST_TEXT, read_plain
from kdzoo.process_state import ProcessState

if TYPE_CHECKING:
    from kdzoo.data.dataset import Dataset
    from kdzoo.strategy import Strategy

hookimpl = pluggy.HookimplMarker(offers.GROUP)
"""Marks a function of a plugin as one of the hooks; see ``docs/hooks.md``."""

SINGLE_FILE = "file"
"""The distribution of what a single file brings."""


@dataclass
class Plugin:
    """One plugin: where it comes from and what it brings.

    Args:
        name: name of its entry point, or of its file.
        distribution: the distribution that announces it, or ``file``.
        version: the distribution's version, or a hash of the file's content.
        strategies: the strategy classes that it registers.
        datasets: the datasets that it registers.
        error: why it could not be loaded, in one line; empty if it was.
        traceback: the whole story of that error.
        models: names of the timm models that it registers.
        trackers: names of the trackers that it registers, for ``--log-with``.
        events: the hooks by which it is told of a run, by name.
        api: the version of kdzoo's API for which it says that it was written; empty if it says nothing.
        homes: the folders and files of its code.
        changed: what it changed of the process when it was loaded, which was put back; in words.
    """

    name: str
    distribution: str
    version: str
    strategies: list[type[Strategy]] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    error: str = ""
    traceback: str = ""
    models: list[str] = field(default_factory=list)
    trackers: list[str] = field(default_factory=list)
    events: dict[str, Callable[..., Any]] = field(default_factory=dict)
    api: str = ""
    homes: tuple[Path, ...] = ()
    changed: str = ""

    @property
    def origin(self) -> tuple[str, str]:
        """Its distribution and name, by which it is told from all others."""
        return self.distribution, self.name

    @property
    def is_file(self) -> bool:
        """Whether it is a single file given on the command line."""
        return self.distribution == SINGLE_FILE

    @property
    def is_empty(self) -> bool:
        """Whether it brings nothing at all."""
        return not (self.strategies or self.datasets or self.models or self.trackers or self.events)


def load_plugins(files: Sequence[Path] = ()) -> list[Plugin]:
    """Load every installed plugin, then the given single files.

    An installed plugin that cannot be loaded is returned with its error, and the others are loaded all the same.

    Args:
        files: Python files whose strategies (and hooks, if they have any) are added.

    Raises:
        UsageError: one of the files is missing, cannot be imported, or defines nothing.
    """
    found = sorted(entry_points(group=offers.GROUP), key=lambda entry: (_distribution(entry)[0], entry.name))
    loads = [partial(_load_entry_point, entry) for entry in found] + [partial(_load_file, path) for path in files]
    return [_undoing(load) for load in loads]


def _undoing(load: Callable[[], Plugin]) -> Plugin:
    """Load a plugin; what it changes for everybody else is put back."""
    state = ProcessState.now()
    try:
        plugin = load()
    finally:
        state.put_back()
    plugin.changed = state.summary()
    return plugin


def _load_entry_point(entry: EntryPoint) -> Plugin:
    plugin = Plugin(entry.name, *_distribution(entry))
    try:
        plugin.homes = foreign.module_homes(entry.module)
        with offers.keeping_names(plugin.origin):
            _collect(plugin, entry.load())
    except BaseException as error:
        raise_if_interrupted(error)
        # Whatever a third party's import does, it is told here and must not stop the others.
        _fail(plugin, error, _source(entry))
    return plugin


def _load_file(path: Path) -> Plugin:
    try:
        source = read_plain(path, MOST_TEXT)
    except OddFileError as error:
        raise UsageError(f"--plugin {path} {error}; give a Python file") from None
    except OSError as error:
        raise UsageError(f"--plugin {path} cannot be read: {os_reason(error)}") from None
    digest = hashlib.sha256(source).hexdigest()[:12]
    place = path.absolute()
    plugin = Plugin(path.stem, SINGLE_FILE, digest, homes=(place,))
    # Without dots, which would make it a module inside of a package that there is not.
    name = f"kdzoo_plugin_{path.stem.replace('.', '_')}_{digest}"
    loader = _Loader(name, str(place), source)
    spec = importlib.util.spec_from_file_location(name, place, loader=loader)
    if path.suffix != ".py" or spec is None:
        raise UsageError(f"--plugin {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with offers.keeping_names(plugin.origin):
            loader.exec_module(module)
            _collect(plugin, module)
        # A single file needs no hook: its own named strategies are what it brings.
        plugin.strategies += [each for each in offers.own_classes(module) if each not in plugin.strategies]
        for strategy in plugin.strategies:
            if strategy.__module__ == name:
                strategy.revision = digest
    except BaseException as error:
        raise_if_interrupted(error)
        del sys.modules[name]
        _fail(plugin, error, source.decode(errors="replace"))
        raise UsageError(f"--plugin {path} failed: {plugin.error}\n{plugin.traceback}".rstrip()) from None
    if plugin.is_empty:
        raise UsageError(
            f"--plugin {path} defines neither a strategy nor a hook: write a subclass of kdzoo.Strategy with a name"
        )
    return plugin


class _Loader(SourceFileLoader):
    """Runs the bytes that were hashed, past Python's cache, which takes two edits within a second for one."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self.source = source

    def get_data(self, path: str) -> bytes:
        return self.source

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("no times, and so no cache")


def _collect(plugin: Plugin, implementation: Any) -> None:
    """Take what a plugin gives.

    Raises:
        _ApiMismatchError: it was written for another version of kdzoo.
        Exception: whatever its hooks raise, or what is wrong with what they give.
    """
    declared = getattr(implementation, api.DECLARATION, None)
    if declared is not None:
        reason = api.mismatch(declared)
        plugin.api = declared
        if reason:
            raise _ApiMismatchError(reason)
    manager = offers.manager_of(implementation)
    plugin.strategies += offers.strategies_of(manager)
    plugin.datasets += offers.datasets_of(manager)
    plugin.models += offers.models_of(manager, plugin.origin)
    plugin.trackers += offers.trackers_of(manager, plugin.origin)
    plugin.events |= offers.events_of(manager)


class _ApiMismatchError(Exception):
    """A plugin was written for a version of kdzoo's API that is not this one."""


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:
        return entry.value, "unknown"
    # A damaged installation may lack the file that says its name.
    return entry.dist.name or entry.value, entry.dist.version or "unknown"


def _source(entry: EntryPoint) -> str:
    """The text of a plugin's module; empty where it cannot be had without running it."""
    try:
        spec = importlib.util.find_spec(entry.module)
    except BaseException as error:
        raise_if_interrupted(error)
        return ""  # a parent package fails in its turn, and that is what is told
    source = getattr(spec.loader, "get_source", None) if spec else None
    try:
        return source(entry.module) or "" if source else ""
    except (ImportError, SyntaxError, UnicodeDecodeError):
        return ""


def _fail(plugin: Plugin, error: BaseException, source: str) -> None:
    """Empty a plugin and note why; where it says that it was written for another version, that is why."""
    for offered in (plugin.strategies, plugin.datasets, plugin.models, plugin.trackers):
        offered.clear()
    plugin.events.clear()
    declared = api.declared_in(source)
    reason = _mismatch(declared) if declared and not isinstance(error, _ApiMismatchError) else ""
    if reason or isinstance(error, _ApiMismatchError):
        plugin.api = plugin.api or declared or ""
        plugin.error = foreign.line(reason or str(error))
    else:
        plugin.error = foreign.sentence(error, plugin.homes)
    ours = (f"{Path(__file__).parent}{os.sep}", str(Path(pluggy.__file__).parent), "<frozen importlib")
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    plugin.traceback = foreign.story("".join(traceback.format_list(theirs)))


def _mismatch(declared: str) -> str:
    try:
        return api.mismatch(declared)
    except ValueError:
        return ""  # the version itself is wrong, which is told as any other error
