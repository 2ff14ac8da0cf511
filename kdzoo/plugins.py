"""Finds plugins. Keeps, for each, its distribution and version and, if it failed to load, why."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from kdzoo import hookspecs
from kdzoo.errors import UsageError

if TYPE_CHECKING:
    from kdzoo.data.dataset import Dataset
    from kdzoo.strategy import Strategy

GROUP = "kdzoo"
hookimpl = pluggy.HookimplMarker("kdzoo")


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
    """

    name: str
    distribution: str
    version: str
    strategies: list[type[Strategy]] = field(default_factory=list)
    datasets: list[Dataset] = field(default_factory=list)
    error: str = ""
    traceback: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is a single file given on the command line."""
        return self.distribution == "file"


def load_plugins(files: Sequence[Path] = ()) -> list[Plugin]:
    """Load every installed plugin, then the given single files.

    An installed plugin that cannot be loaded is returned with its error, and the others are loaded all the same.

    Args:
        files: Python files whose strategies (and hooks, if they have any) are added.

    Raises:
        UsageError: one of the files is missing, cannot be imported, or defines nothing.
    """
    found = sorted(entry_points(group=GROUP), key=lambda entry: (_distribution(entry)[0], entry.name))
    return [_load_entry_point(entry) for entry in found] + [_load_file(path) for path in files]


def _load_entry_point(entry: EntryPoint) -> Plugin:
    plugin = Plugin(entry.name, *_distribution(entry))
    try:
        _collect(plugin, entry.load())
    except Exception as error:
        # Whatever a third party's import does, it is told here and must not stop the others.
        _fail(plugin, error)
    return plugin


def _load_file(path: Path) -> Plugin:
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--plugin {path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    digest = hashlib.sha256(source).hexdigest()[:12]
    plugin = Plugin(path.stem, "file", digest)
    name = f"kdzoo_plugin_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--plugin {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        _collect(plugin, module)
        _collect_classes(plugin, module)
    except Exception as error:
        _fail(plugin, error)
        raise UsageError(f"--plugin {path} failed: {plugin.error}\n{plugin.traceback}".rstrip()) from None
    if not plugin.strategies and not plugin.datasets:
        raise UsageError(f"--plugin {path} defines no strategy: write a subclass of kdzoo.Strategy with a name")
    return plugin


def _collect(plugin: Plugin, implementation: Any) -> None:
    """Call the plugin's hooks through a manager of its own, so that its answers and errors stay its own."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(implementation)
    manager.check_pending()
    plugin.strategies += _flatten(manager.hook.kdzoo_strategies())
    plugin.datasets += _flatten(manager.hook.kdzoo_datasets())
    for strategy in plugin.strategies:
        _check_strategy(strategy)
        if plugin.is_file:
            strategy.revision = plugin.version


def _collect_classes(plugin: Plugin, module: ModuleType) -> None:
    """A single file needs no hook: its own named subclasses of Strategy are what it brings."""
    from kdzoo.strategy import Strategy

    for value in vars(module).values():
        own = inspect.isclass(value) and issubclass(value, Strategy) and value.__module__ == module.__name__
        if own and value.name and value not in plugin.strategies:
            _check_strategy(value)
            value.revision = plugin.version
            plugin.strategies.append(value)


def _check_strategy(strategy: Any) -> None:
    from kdzoo.strategy import SIGNALS, Strategy

    if not (inspect.isclass(strategy) and issubclass(strategy, Strategy)):
        raise TypeError(f"kdzoo_strategies must give subclasses of kdzoo.Strategy, not {strategy!r}")
    if not strategy.name or not set(strategy.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
        raise ValueError(f"{strategy.__qualname__}.name must be of a-z, 0-9, _ and -, not {strategy.name!r}")
    wrong = {*strategy.signals, *(strategy.teacher_signals or ())} - set(SIGNALS)
    if wrong:
        raise ValueError(f"{strategy.name!r} asks for unknown signals {sorted(wrong)}; known: {', '.join(SIGNALS)}")


def _flatten(answers: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for answer in answers for item in answer]


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    return (entry.dist.name, entry.dist.version) if entry.dist else (entry.value, "unknown")


def _fail(plugin: Plugin, error: Exception) -> None:
    plugin.strategies.clear()
    plugin.datasets.clear()
    plugin.error = f"{type(error).__name__}: {error}".splitlines()[0]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename not in (__file__, "<frozen importlib._bootstrap>")]
    plugin.traceback = "".join(traceback.format_list(own))
