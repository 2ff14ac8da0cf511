"""Name -> strategy or dataset, with its origin. A clash is an error that names the distributions.

``soft+at`` is a combination, made when it is asked for. Its distribution is that of its parts, or where they come from
several, all of them in the same order: ``kdzoo:soft+at``, ``kdzoo+my-pack:soft+mine``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kdzoo import foreign
from kdzoo.errors import UsageError, unknown
from kdzoo.plugins import Plugin, load_plugins

if TYPE_CHECKING:
    from kdzoo.cell import StrategyRef
    from kdzoo.data.dataset import Dataset
    from kdzoo.strategy import Strategy

T = TypeVar("T")

_PROVENANCE = ("name", "distribution", "version")


@dataclass(frozen=True)
class Registered(Generic[T]):
    """A registered thing and the plugin that brought it; of a combination also its parts."""

    name: str
    value: T
    plugin: Plugin
    parts: tuple[Registered[T], ...] = ()

    @property
    def sources(self) -> tuple[Registered[T], ...]:
        """What was brought by a plugin: the parts of a combination, anything else itself."""
        return self.parts or (self,)

    @property
    def homes(self) -> tuple[Path, ...]:
        """The folders and files of the code behind it, for finding the line that an error comes from."""
        found = [
            home for one in self.sources for home in (*one.plugin.homes, *foreign.module_homes(one.value.__module__))
        ]
        return tuple(dict.fromkeys(found))


class Registry:
    """Everything that the loaded plugins bring.

    Args:
        plugins: as :func:`kdzoo.plugins.load_plugins` gives them.
    """

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = list(plugins)
        self.strategies: list[Registered[type[Strategy]]] = [
            Registered(strategy.name, strategy, plugin) for plugin in plugins for strategy in plugin.strategies
        ]
        self.datasets: list[Registered[Dataset]] = [
            Registered(dataset.name, dataset, plugin) for plugin in plugins for dataset in plugin.datasets
        ]
        self._preferred: dict[str, Registered[type[Strategy]]] = {}
        self._combinations: dict[tuple[type[Strategy], ...], Registered[type[Strategy]]] = {}

    @classmethod
    def load(cls, files: Sequence[Path] = ()) -> Registry:
        """Load the installed plugins and the given single files."""
        return cls(load_plugins(files))

    def strategy(self, name: str) -> Registered[type[Strategy]]:
        """The strategy of that name, or of ``distribution:name``; ``name+name`` is a combination.

        Raises:
            UsageError: there is none, several distributions bring it, or its parts cannot be combined.
        """
        if "+" in name:
            return self._combination(name)
        return self._preferred.get(name) or self._find("strategy", name, self.strategies)

    def of(self, ref: StrategyRef) -> Registered[type[Strategy]]:
        """The strategy that a cell names.

        Raises:
            UsageError: it is not installed here.
        """
        return self.strategy(f"{ref.distribution}:{ref.name}")

    def prefer(self, entry: Registered[type[Strategy]]) -> None:
        """From now on let a strategy's bare name mean this one, whoever else brings one of that name."""
        self._preferred[entry.name] = entry

    def _combination(self, name: str) -> Registered[type[Strategy]]:
        distribution, _, bare = name.rpartition(":")
        names, origins = bare.split("+"), distribution.split("+")
        if len(origins) == 1:
            origins *= len(names)
        if not all(names) or len(names) < 2 or len(origins) != len(names) or ":" in distribution:
            raise UsageError(
                f"combination {name!r}: write name+name, or with the distributions of all parts in front, "
                "distribution+distribution:name+name"
            )
        parts = tuple(
            self.strategy(f"{origin}:{one}" if origin else one) for origin, one in zip(origins, names, strict=True)
        )
        kinds = tuple(part.value for part in parts)
        if kinds not in self._combinations:
            from kdzoo.combination import combine

            kind = combine(kinds, [part.value.revision for part in parts])
            name, origin, version = (_joined([getattr(part.plugin, of) for part in parts], parts) for of in _PROVENANCE)
            plugin = Plugin(name, origin, version)
            self._combinations[kinds] = Registered(bare, kind, plugin, parts)
        return self._combinations[kinds]

    def model(self, name: str) -> Plugin | None:
        """The plugin that registered a timm model; None for timm's own, and for a hub's."""
        bare = name.partition(".")[0]
        return next((plugin for plugin in self.plugins if bare in plugin.models), None)

    def dataset(self, name: str) -> Registered[Dataset]:
        """The dataset of that name, or of ``distribution:name``.

        Raises:
            UsageError: there is none, or several distributions bring it.
        """
        return self._find("dataset", name, self.datasets)

    def find_dataset(self, name: str) -> Dataset:
        """The dataset itself; see :meth:`dataset`."""
        return self.dataset(name).value

    def _find(self, kind: str, name: str, entries: Iterable[Registered[Any]]) -> Registered[Any]:
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


def _joined(values: Sequence[str], parts: Sequence[Registered[Any]]) -> str:
    """What a combination says of its origin: once where all parts come from one distribution."""
    alone = len({part.plugin.distribution for part in parts}) == 1
    return values[0] if alone and len(set(values)) == 1 else "+".join(values)
