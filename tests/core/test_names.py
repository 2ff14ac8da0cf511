"""One name, one meaning: no public name has two homes inside kdzoo, and no two files share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import kdzoo

PACKAGE = Path(kdzoo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

PAIRS = {
    "bank.py": "the command, and the bank that it lists",
    "plugins.py": "the command, and the plugins that it lists",
    "publish.py": "the command, and the publishing that it does",
}
"""Files of one name: the command line's file for a command, beside the module that does what the command asks for."""

HOOKS = "kdzoo_"
"""How the names of pluggy's hooks begin: whoever implements one gives it the name of its specification."""


def shared(homes: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """The names that have several homes, with these."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, path in homes:
        found[name].append(path.relative_to(PACKAGE).as_posix())
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_two_files_share_a_name() -> None:
    twins = shared((path.name, path) for path in FILES if path.name != "__init__.py")
    commands = {name for name, places in twins.items() if len(places) == 2 and f"cli/{name}" in places}
    assert not PAIRS.keys() - commands
    assert {name: twins[name] for name in twins.keys() - PAIRS.keys()} == {}


def defined(path: Path) -> Iterator[str]:
    """The public names that a module defines: classes, functions, constants and type variables."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def test_no_public_name_has_two_homes() -> None:
    named = ((name, path) for path in FILES for name in defined(path) if not name.startswith(("_", HOOKS)))
    assert shared(named) == {}
