"""Which names installed plugins use already, found without running them: that would import torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from kdzoo.errors import OddFileError, UsageError
from kdzoo.files import MOST_KEPT, read_plain
from kdzoo.scaffold.names import Names

_HOOKS = ("kdzoo_strategies", "kdzoo_datasets")


def check_free(names: Names) -> None:
    """Refuse a name that an installed plugin uses for a strategy or a dataset, or whose package is installed.

    Raises:
        UsageError: it is taken, and by whom.
    """
    if find_spec(names.package) is not None:
        raise UsageError(
            f"the package {names.package} is there already: choose another name, or `pip uninstall "
            f"{names.distribution}` first"
        )
    for entry in entry_points(group="kdzoo"):
        if any(names.name in declared_names(path) for path in _sources(entry)):
            brings = entry.dist.name if entry.dist is not None else entry.value
            raise UsageError(f"the name {names.name!r} is taken by {brings}: choose another")


def declared_names(path: Path) -> set[str]:
    """The names that a source file gives to strategies and datasets.

    These are the texts assigned to ``name`` in the body of a class, and those that begin the arguments of a call in
    one of the hooks. A file that Python cannot read declares nothing; `kdzoo plugins` tells of it. One that never
    speaks of kdzoo is not looked into: a plugin may live in a package of thousands of files.
    """
    try:
        source = read_plain(path, MOST_KEPT)
        if b"kdzoo" not in source:
            return set()
        tree = ast.parse(source)
    except (OSError, OddFileError, SyntaxError, ValueError):
        return set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found.update(_texts(value for statement in node.body for value in _assigned(statement)))
        elif isinstance(node, ast.FunctionDef) and node.name in _HOOKS:
            calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
            found.update(_texts(call.args[0] for call in calls if call.args))
    return found


def _assigned(statement: ast.stmt) -> Iterator[ast.expr]:
    """The value, if the statement is ``name = value`` or ``name: type = value``."""
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return
    if statement.value is not None and any(isinstance(one, ast.Name) and one.id == "name" for one in targets):
        yield statement.value


def _texts(values: Iterator[ast.expr]) -> Iterator[str]:
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def _sources(entry: EntryPoint) -> Iterator[Path]:
    """The plugin's module and, where that is inside a package, all modules of the same folder and below."""
    top, *inner = entry.module.split(".")
    spec = find_spec(top)  # imports nothing, as it would for a module inside a package
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin is not None:
            yield Path(spec.origin)
        return
    for location in spec.submodule_search_locations:
        module = Path(location).joinpath(*inner)
        yield from sorted((module if module.is_dir() else module.parent).rglob("*.py"))
