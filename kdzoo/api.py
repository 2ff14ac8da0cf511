"""What plugins keep to: the version of what they can see, and the names that they may give. No torch here."""

from __future__ import annotations

import ast
import re
from typing import Any

API_VERSION = "1.3"
"""Version of the public names and the hooks: major.minor.

The minor number rises with each addition. The major one rises when a plugin that worked would no longer do so.
"""

DECLARATION = "kdzoo_api"
"""The attribute in which a plugin's module says for which version it was written."""

_VERSION = re.compile(r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)")


RESERVED = frozenset({"all", "recipe"})
"""No strategy has one of these names, because of `--strategies all` and `--set recipe.key=value`."""

LONGEST_NAME = 100
"""Characters of a name."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-")


def read_version(declared: Any) -> tuple[int, int]:
    """Major and minor number.

    Raises:
        ValueError: it is not a text such as ``"1.0"``.
    """
    match = _VERSION.fullmatch(declared) if isinstance(declared, str) else None
    if match is None:
        raise ValueError(f"{DECLARATION} must be a text such as {API_VERSION!r}, not {declared!r}")
    return int(match[1]), int(match[2])


def mismatch(declared: str) -> str:
    """Why a plugin that was written for a version cannot be loaded, in one sentence; empty where it can.

    Raises:
        ValueError: the version is none.
    """
    major, minor = read_version(declared)
    own_major, own_minor = read_version(API_VERSION)
    here = f"it was written for version {declared} of kdzoo's API, and this kdzoo has {API_VERSION}"
    if major > own_major or (major == own_major and minor > own_minor):
        return f"{here}: upgrade kdzoo"
    return f"{here}: upgrade the plugin" if major < own_major else ""


def declared_in(source: str) -> str | None:
    """The version that a module's text declares, read without running it; None where it declares none.

    For a module that cannot be imported, perhaps because of the very names that another version has.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    for node in body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        named = any(isinstance(target, ast.Name) and target.id == DECLARATION for target in targets)
        if named and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return node.value.value
    return None


def name_fault(name: Any) -> str:
    """What is wrong with a name, as the end of a sentence about it; empty where nothing is."""
    if not (isinstance(name, str) and name and set(name) <= _LETTERS):
        return f"must be of a-z, 0-9, _ and -, not {name!r}"
    if len(name) > LONGEST_NAME:
        return f"has {len(name):,} characters, and may have {LONGEST_NAME}"
    return "" if name[0].isalpha() else f"must begin with one of a-z, not {name!r}"
