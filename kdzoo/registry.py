"""Name -> strategy or dataset, with its origin. A clash is an error that names the distributions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kdzoo.errors import UsageError, unknown
from kdzoo.plugins import Plugin, load_plugins

if TYPE_CHECKING:
    from kdzoo.data.dataset import Dataset
    from kdzoo.strategy import Strategy

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered thing and the plugin that brought it."""

    name: str
    value: T
    plugin: Plugin


class Registry:
    """Everything that the loaded plugins bring.

    Args:
        plugins: as :func:`kdzoo.plugins.load_plugins` gives them.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self.strategies: list[Entry[type[Strategy]]] = [
            Entry(strategy.name, strategy, plugin) for plugin in plugins for strategy in plugin.strategies
        ]
        self.datasets: list[Entry[Dataset]] = [
            Entry(dataset.name, dataset, plugin) for plugin in plugins for dataset in plugin.datasets
        ]

        self._preferred: dict[str, Entry[type[Strategy]]] = {}

    @classmethod
    def load(cls, files: Sequence[Path] = ()) -> Registry:
        """Load the installed plugins and the given single files."""
        return cls(load_plugins(files))

    def strategy(self, name: str) -> Entry[type[Strategy]]:
        """The strategy of that name, or of ``distribution:name``.

        Raises:
            UsageError: there is none, or several distributions bring it.
        """
        return self._preferred.get(name) or self._find("strategy", name, self.strategies)

    def prefer(self, entry: Entry[type[Strategy]]) -> None:
        """From now on let a strategy's bare name mean this one, whoever else brings one of that name."""
        self._preferred[entry.name] = entry

    def dataset(self, name: str) -> Entry[Dataset]:
        """The dataset of that name, or of ``distribution:name``.

        Raises:
            UsageError: there is none, or several distributions bring it.
        """
        return self._find("dataset", name, self.datasets)

    def find_dataset(self, name: str) -> Dataset:
        """The dataset itself; see :meth:`dataset`."""
        return self.dataset(name).value

    def _find(self, kind: str, name: str, entries: Iterable[Entry[Any]]) -> Entry[Any]:
        distribution, _, bare = name.rpartition(":")
        entries = list(entries)
        found = [entry for entry in entries if entry.name == bare and distribution in ("", entry.plugin.distribution)]
        if len(found) > 1:
            origins = sorted({entry.plugin.distribution for entry in found})
            if len(origins) == 1:
                plugins = " and ".join(sorted(entry.plugin.name for entry in found))
                raise UsageError(f"{kind} {bare!r} is brought twice by {origins[0]} (plugins {plugins}); rename one")
            raise UsageError(
                f"{kind} {bare!r} is brought by {' and '.join(origins)}; choose one, for example {origins[0]}:{bare}"
            )
        if found:
            return found[0]
        known = [f"{entry.plugin.distribution}:{entry.name}" if distribution else entry.name for entry in entries]
        broken = ", ".join(plugin.name for plugin in self.plugins if plugin.error)
        hint = f" (not loaded: {broken}; see `kdzoo plugins`)" if broken else ""
        raise UsageError(unknown(kind, name, known) + hint)
