"""Keeps the meaning of timm's names while a plugin is loaded: a cell is named by its models' names."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Origin = tuple[str, str]
"""A plugin: its distribution and name."""

_brought: dict[str, Origin] = {}
"""Names that were registered while a plugin was loaded, and the plugin."""


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
