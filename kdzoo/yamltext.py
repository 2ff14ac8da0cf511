"""YAML as kdzoo reads it: safe, no key twice, and ``5e-4`` is a number."""

from __future__ import annotations

import re
from typing import Any

import yaml

from kdzoo.errors import UsageError


class _Loader(yaml.SafeLoader):
    """safe_load that refuses a key given twice, which YAML lets pass with the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 5e-4 for a text because it has no dot; everybody who writes it means the number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_mapping(text: str, where: str) -> dict[str, Any]:
    """The mapping that a YAML text holds.

    Raises:
        UsageError: it is malformed (with its line) or something other than a mapping with names as keys.
    """
    try:
        values = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{where}{line}: malformed YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{where}: malformed YAML: {(str(error) or 'too deep').splitlines()[0]}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UsageError(f"{where}: expected a mapping of keys to values")
    return values


def read_scalar(text: str) -> bool | int | float | str | None:
    """The single value that a YAML text holds; a text that is no YAML scalar stays a text."""
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return value if isinstance(value, (bool, int, float, str)) or value is None else text
