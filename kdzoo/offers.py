"""What a plugin's hooks give, checked before anybody uses it."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

from kdzoo import hookspecs
from kdzoo.api import LONGEST_NAME, RESERVED, name_fault
from kdzoo.errors import unknown

if TYPE_CHECKING:
    from kdzoo.data.dataset import Dataset
    from kdzoo.strategy import Strategy


GROUP = "kdzoo"
EVENTS = ("kdzoo_cell_started", "kdzoo_epoch_ended", "kdzoo_record_written")
"""The hooks that tell of a run, in the order in which a cell calls them."""

_trackers: dict[str, tuple[str, str]] = {}
"""What this process registered with accelerate: name -> the plugin (distribution, name) that brought it."""


Origin = tuple[str, str]
"""A plugin: its distribution and name."""

_brought: dict[str, Origin] = {}
"""Names that were registered while a plugin was loaded, and the plugin."""


def manager_of(implementation: Any) -> pluggy.PluginManager:
    """A manager of the plugin's own, so that its answers and errors stay its own.

    Raises:
        LookupError: it implements a hook that there is not, or asks for an argument that there is not.
    """
    _check_hooks(implementation)
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(implementation)
    manager.check_pending()
    return manager


def _check_hooks(implementation: Any) -> None:
    """Refuse what pluggy would refuse in several lines, of which the first does not say what is wrong."""
    specified = {
        name: list(inspect.signature(spec).parameters)
        for name, spec in vars(hookspecs).items()
        if hasattr(spec, f"{GROUP}_spec")
    }
    for name in dir(implementation):
        function = getattr(implementation, name, None)
        options = getattr(function, f"{GROUP}_impl", None)
        if not inspect.isroutine(function) or not isinstance(options, dict):
            continue
        hook = options.get("specname") or name
        if hook not in specified:
            raise LookupError(unknown("hook", hook, specified))
        for argument in inspect.signature(function).parameters:
            if argument not in specified[hook]:
                has = ", ".join(specified[hook]) or "none"
                raise LookupError(f"{hook} has no argument {argument!r}; it has {has}")


def strategies_of(manager: pluggy.PluginManager) -> list[type[Strategy]]:
    """The strategy classes of a plugin."""
    found = _flatten(manager.hook.kdzoo_strategies())
    for strategy in found:
        check_class(strategy)
    return found


def own_classes(module: ModuleType) -> list[type[Strategy]]:
    """The named strategies that a module itself defines, which a single file offers without a hook."""
    from kdzoo.strategy import Strategy

    found: list[type[Strategy]] = []
    for value in vars(module).values():
        own = inspect.isclass(value) and issubclass(value, Strategy) and value.__module__ == module.__name__
        if own and value.name and value not in found:
            check_class(value)
            found.append(value)
    return found


def datasets_of(manager: pluggy.PluginManager) -> list[Dataset]:
    """The datasets of a plugin."""
    found = _flatten(manager.hook.kdzoo_datasets())
    for dataset in found:
        if not (hasattr(dataset, "name") and callable(getattr(dataset, "load", None))):
            raise TypeError(f"kdzoo_datasets must give instances of kdzoo.Dataset, not {dataset!r}")
        _check_name(type(dataset).__qualname__, dataset.name)
    return found


def models_of(manager: pluggy.PluginManager, origin: tuple[str, str]) -> list[str]:
    """The timm models of a plugin, which are registered by asking for them, within :func:`keeping_names`.

    Args:
        manager: the plugin's.
        origin: its distribution and name.
    """
    if not manager.hook.kdzoo_models.get_hookimpls():
        return []
    import timm

    found = _flatten(manager.hook.kdzoo_models())
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"kdzoo_models must give names of models, not {name!r}")
        if not timm.is_model(name):
            raise ValueError(f"kdzoo_models names {name!r}, which is not registered with timm.models.register_model")
        if owner(name) not in (None, origin):
            raise ValueError(f"kdzoo_models registers {taken(name)}")
    return found


def trackers_of(manager: pluggy.PluginManager, origin: tuple[str, str]) -> list[str]:
    """The names of a plugin's trackers, which are registered with accelerate.

    Args:
        manager: the plugin's.
        origin: its distribution and name.
    """
    if not manager.hook.kdzoo_trackers.get_hookimpls():
        return []
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

    found = _flatten(manager.hook.kdzoo_trackers())
    for tracker in found:
        if not (inspect.isclass(tracker) and issubclass(tracker, GeneralTracker)):
            raise TypeError(f"kdzoo_trackers must give subclasses of accelerate's GeneralTracker, not {tracker!r}")
        name: str = getattr(tracker, "name", "")
        _check_name(tracker.__qualname__, name)
        if name in LOGGER_TYPE_TO_CLASS and _trackers.get(name) != origin:
            raise ValueError(f"kdzoo_trackers gives {name!r}, which is the name of another tracker: give it another")
        # accelerate's own function for this warns where a plugin is loaded for the second time in a process.
        LOGGER_TYPE_TO_CLASS[name] = tracker
        _trackers[name] = origin
    return [tracker.name for tracker in found]


def events_of(manager: pluggy.PluginManager) -> dict[str, Callable[..., Any]]:
    """The hooks of a plugin that tell of a run, by name; none that it does not implement."""
    return {name: getattr(manager.hook, name) for name in EVENTS if getattr(manager.hook, name).get_hookimpls()}


def check_class(strategy: Any) -> None:
    """Refuse what is no strategy, or has a name or signals that cannot be.

    Raises:
        TypeError: it is no strategy.
        ValueError: its name or signals are wrong.
    """
    from kdzoo.declarations import SIGNALS
    from kdzoo.strategy import Strategy

    if not (inspect.isclass(strategy) and issubclass(strategy, Strategy)):
        raise TypeError(f"kdzoo_strategies must give subclasses of kdzoo.Strategy, not {strategy!r}")
    _check_name(strategy.__qualname__, strategy.name)
    if strategy.name in RESERVED:
        raise ValueError(f"{strategy.__qualname__}.name cannot be {strategy.name!r}, which has a meaning of its own")
    if not (
        isinstance(strategy.family, str) and strategy.family.isprintable() and len(strategy.family) <= LONGEST_NAME
    ):
        raise ValueError(f"the family of {strategy.name!r} must be printable, and of at most {LONGEST_NAME} characters")
    wrong = {*strategy.signals, *(strategy.teacher_signals or ())} - set(SIGNALS)
    if wrong:
        raise ValueError(f"{strategy.name!r} asks for unknown signals {sorted(wrong)}; known: {', '.join(SIGNALS)}")
    if unseen := set(strategy.modifies) - set(strategy.signals):
        raise ValueError(f"{strategy.name!r} modifies {sorted(unseen)}, and does not ask for them: add them to signals")


def _check_name(owner: str, name: Any) -> None:
    if wrong := name_fault(name):
        raise ValueError(f"{owner}.name {wrong}")


def _flatten(answers: Iterable[Iterable[Any]]) -> list[Any]:
    return [item for answer in answers for item in answer]


@contextmanager
def keeping_names(origin: Origin) -> Iterator[None]:
    """Load a plugin inside; afterwards all names mean what they meant before, whether or not it could be loaded.

    A plugin may add names, and register again what it has brought itself.

    Raises:
        ValueError: it gave a name that means something to another network.
    """
    before = _registered() if "timm" in sys.modules else None
    replaced: list[str] = []
    try:
        yield
    finally:
        if "timm" in sys.modules:
            replaced = _put_back(_timms_own() if before is None else before, origin)
    if replaced:
        raise ValueError(f"it registers {taken(replaced[0])}")


def owner(name: str) -> Origin | None:
    """Whose a name is: a plugin's, timm's (``("timm", "")``), or nobody's as far as is known."""
    import timm

    return _brought.get(name) or (("timm", "") if callable(getattr(timm.models, name, None)) else None)


def taken(name: str) -> str:
    """The words about a name that is somebody's."""
    whose = (owner(name) or ("another plugin", ""))[0]
    return f"{name!r}, which is a model of {whose} already: give it another name"


def _put_back(before: dict[str, Callable[..., Any]], origin: Origin) -> list[str]:
    now = _registered()
    _brought.update(dict.fromkeys(now.keys() - before.keys(), origin))
    replaced = [name for name in before if now.get(name) is not before[name] and _brought.get(name) != origin]
    from timm.models import register_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm warns of every second registration
        for name in replaced:
            register_model(before[name])
    return replaced


def _registered() -> dict[str, Callable[..., Any]]:
    import timm

    return {name: timm.models.model_entrypoint(name) for name in timm.list_models()}


def _timms_own() -> dict[str, Callable[..., Any]]:
    """What timm's names meant before anybody could register them again: its modules hold the functions still."""
    import timm

    found = {name: getattr(timm.models, name, None) for name in timm.list_models()}
    return {name: make for name, make in found.items() if callable(make)}
