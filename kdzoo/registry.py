"""Name -> strategy or dataset, with its origin. A clash is an error that names the distributions.

``soft+at`` is a combination, made when it is asked for. Its distribution is that of its parts, or where they come from
several, all of them in the same order: ``kdzoo:soft+at``, ``kdzoo+my-pack:soft+mine``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kdzoo import foreign
from kdzoo.declarations import Declared
from kdzoo.errors import UsageError, unknown
from kdzoo.known import Known, NotKnownError
from kdzoo.parameters import Value, resolve
from kdzoo.plugins import Plugin, load_plugins

if TYPE_CHECKING:
    from kdzoo.data.dataset import Dataset
    from kdzoo.refs import StrategyRef
    from kdzoo.strategy import Strategy

_T = TypeVar("_T")

_PROVENANCE = ("name", "distribution", "version")
_PLAIN = (*_PROVENANCE, "models", "trackers", "api")
_PLUGINS = "plugins"


@dataclass(frozen=True)
class Registered(Generic[_T]):
    """A registered thing and the plugin that brought it; of a combination also its parts.

    Args:
        name: what the command line calls it.
        given: the thing; None where its plugin was not loaded, because what it declares is known.
        plugin: who brought it.
        parts: of a combination.
        known: what a strategy declares, where it was not loaded.
    """

    name: str
    given: _T | None
    plugin: Plugin
    parts: tuple[Registered[_T], ...] = ()
    known: Declared | None = None

    @property
    def value(self) -> _T:
        """The thing itself.

        Raises:
            NotKnownError: its plugin was not loaded.
        """
        if self.given is None:
            raise NotKnownError(self.name)
        return self.given

    @cached_property
    def declared(self) -> Declared:
        """What a strategy declares."""
        return self.known or Declared.of(cast("type[Strategy]", self.value))

    @property
    def sources(self) -> tuple[Registered[_T], ...]:
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
    """Everything that the plugins bring.

    Args:
        plugins: as :func:`kdzoo.plugins.load_plugins` gives them.
        cache: what earlier processes found out; what this one finds out is noted there.
        loaded: whether the plugins were loaded; otherwise only what is known of them can be asked for.
    """

    def __init__(self, plugins: Sequence[Plugin], cache: Known | None = None, *, loaded: bool = True) -> None:
        self.plugins, self.cache, self.loaded = list(plugins), cache, loaded
        self.strategies: list[Registered[type[Strategy]]] = [
            Registered(strategy.name, strategy, plugin) for plugin in plugins for strategy in plugin.strategies
        ]
        self.datasets: list[Registered[Dataset]] = [
            Registered(dataset.name, dataset, plugin) for plugin in plugins for dataset in plugin.datasets
        ]
        self._preferred: dict[str, Registered[type[Strategy]]] = {}
        self._combinations: dict[tuple[tuple[str, str], ...], Registered[type[Strategy]]] = {}

    @classmethod
    def load(cls, files: Sequence[Path] = (), cache: Known | None = None) -> Registry:
        """Load the installed plugins and the given single files."""
        registry = cls(load_plugins(files), cache)
        # What a plugin does when it fails, or changes of the process, may be another thing next time.
        if cache and not any(plugin.error or plugin.changed for plugin in registry.plugins):
            cache.note(_PLUGINS, [registry._facts(plugin) for plugin in registry.plugins])
        return registry

    @classmethod
    def from_cache(cls, cache: Known) -> Registry:
        """The same without loading a plugin.

        Raises:
            NotKnownError: nobody has loaded them as they are.
        """
        registry = cls([], cache, loaded=False)
        for facts in cache.answer(_PLUGINS):
            plain = {name: facts[name] for name in _PLAIN}
            plugin = Plugin(**plain, homes=tuple(map(Path, facts["homes"])))
            registry.plugins.append(plugin)
            for value in facts["strategies"]:
                known = Declared.from_json(value)
                registry.strategies.append(Registered(known.name, None, plugin, known=known))
            registry.datasets += [Registered(name, None, plugin) for name in facts["datasets"]]
        return registry

    def _facts(self, plugin: Plugin) -> dict[str, Any]:
        return {name: getattr(plugin, name) for name in _PLAIN} | {
            "homes": [str(home) for home in plugin.homes],
            "strategies": [one.declared.to_json() for one in self.strategies if one.plugin is plugin],
            "datasets": [one.name for one in self.datasets if one.plugin is plugin],
        }

    def resolve(self, entry: Registered[type[Strategy]], values: Mapping[str, Any]) -> dict[str, Value]:
        """Every hyperparameter's value of a strategy; see :meth:`kdzoo.Strategy.resolve`.

        Raises:
            UsageError: an unknown name, a wrong type or a value out of range.
            NotKnownError: the strategy has a check of its own, and was not loaded.
        """
        question = ["values", entry.plugin.distribution, entry.name, dict(values)]
        if not self.loaded and entry.declared.own_check:
            found: dict[str, Value] = self._cached(question)
        elif not self.loaded:
            found = resolve(entry.name, entry.declared.params, values)
        else:
            found = entry.value.resolve(values)
            if self.cache and entry.declared.own_check:
                self.cache.note(question, found)
        return found

    def _cached(self, question: Any) -> Any:
        if self.cache is None:
            raise NotKnownError(str(question))
        return self.cache.answer(question)

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
        origins_of = tuple((part.plugin.distribution, part.name) for part in parts)
        if origins_of not in self._combinations:
            name, origin, version = (_joined([getattr(part.plugin, of) for part in parts], parts) for of in _PROVENANCE)
            plugin, question = Plugin(name, origin, version), ["combination", origins_of]
            if self.loaded:
                from kdzoo.combining import combine

                kind = combine([part.value for part in parts], [part.value.revision for part in parts])
                made = Registered(bare, kind, plugin, parts)
                if self.cache:
                    self.cache.note(question, made.declared.to_json())
            else:
                made = Registered(bare, None, plugin, parts, Declared.from_json(self._cached(question)))
            self._combinations[origins_of] = made
        return self._combinations[origins_of]

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
