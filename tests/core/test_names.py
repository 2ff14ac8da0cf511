"""One name, one meaning: no public class or function has two homes inside kdzoo, and no two files share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
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

OPEN_FILES = {
    *("check.py", "columns.py", "data.py", "labels.py", "lockstep.py", "memory.py"),
    *("ranks.py", "results.py", "rows.py", "run.py"),
}
OPEN_NAMES = {
    *(
        "Backward",
        "Cell",
        "Entry",
        "Group",
        "Line",
        "Pair",
        "Place",
        "Reader",
        "Section",
        "Teacher",
        "Verdict",
        "Watch",
    ),
    *("alike", "bench", "check_strategy", "is_tuned", "main", "only", "perform", "run_cell", "section", "select"),
    *("sentence", "size_text", "strategies", "tune", "values_of"),
}
"""What is still to be named anew."""


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
    assert {name: twins[name] for name in twins.keys() - PAIRS.keys() - OPEN_FILES} == {}


def test_no_public_name_has_two_homes() -> None:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    named = (
        (node.name, path)
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, kinds) and not node.name.startswith(("_", HOOKS))
    )
    twins = shared(named)
    assert {name: twins[name] for name in twins.keys() - OPEN_NAMES} == {}
