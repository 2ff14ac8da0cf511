"""Finds plugins. Keeps, for each, its distribution and version and, if it failed to load, why."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
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
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")
_RESERVED = frozenset({"all", "recipe"})  # `--strategies all` and `--set recipe.key=value`
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
    except (Exception, SystemExit) as error:
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
    loader = _Loader(name, str(path), source)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if path.suffix != ".py" or spec is None:
        raise UsageError(f"--plugin {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        loader.exec_module(module)
        _collect(plugin, module)
        _collect_classes(plugin, module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        _fail(plugin, error)
        raise UsageError(f"--plugin {path} failed: {plugin.error}\n{plugin.traceback}".rstrip()) from None
    if not plugin.strategies and not plugin.datasets:
        raise UsageError(f"--plugin {path} defines no strategy: write a subclass of kdzoo.Strategy with a name")
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
    """Call the plugin's hooks through a manager of its own, so that its answers and errors stay its own."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(implementation)
    manager.check_pending()
    plugin.strategies += _flatten(manager.hook.kdzoo_strategies())
    plugin.datasets += _flatten(manager.hook.kdzoo_datasets())
    for dataset in plugin.datasets:
        _check_dataset(dataset)
    for strategy in plugin.strategies:
        _check_strategy(strategy)
        if plugin.is_file and strategy.__module__ == getattr(implementation, "__name__", None):
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
    _check_name(strategy.__qualname__, strategy.name)
    if strategy.name in _RESERVED:
        raise ValueError(f"{strategy.__qualname__}.name cannot be {strategy.name!r}, which has a meaning of its own")
    wrong = {*strategy.signals, *(strategy.teacher_signals or ())} - set(SIGNALS)
    if wrong:
        raise ValueError(f"{strategy.name!r} asks for unknown signals {sorted(wrong)}; known: {', '.join(SIGNALS)}")


def _check_dataset(dataset: Any) -> None:
    if not (hasattr(dataset, "name") and callable(getattr(dataset, "load", None))):
        raise TypeError(f"kdzoo_datasets must give instances of kdzoo.Dataset, not {dataset!r}")
    _check_name(type(dataset).__qualname__, dataset.name)


def _check_name(owner: str, name: Any) -> None:
    if not (isinstance(name, str) and name and set(name) <= _LETTERS):
        raise ValueError(f"{owner}.name must be of a-z, 0-9, _ and -, not {name!r}")


def _flatten(answers: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for answer in answers for item in answer]


def _distribution(entry: EntryPoint) -> tuple[str, str]:
    if entry.dist is None:
        return entry.value, "unknown"
    # A damaged installation may lack the file that says its name.
    return entry.dist.name or entry.value, entry.dist.version or "unknown"


def _fail(plugin: Plugin, error: BaseException) -> None:
    plugin.strategies.clear()
    plugin.datasets.clear()
    plugin.error = f"{type(error).__name__}: {error}".splitlines()[0]
    ours = (__file__, str(Path(pluggy.__file__).parent), "<frozen importlib")
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    plugin.traceback = "".join(traceback.format_list(theirs))
