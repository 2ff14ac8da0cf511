"""YAML as kdzoo reads it: safe, no key twice, and plain values as in YAML 1.2 (but decimal numbers only)."""

from __future__ import annotations

import re
from typing import Any

import yaml

from kdzoo.errors import UsageError


class _Loader(yaml.SafeLoader):
    """safe_load that refuses a key given twice, which YAML lets pass with the last value."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Always decimal, whatever zeros it begins with."""
        return int(self.construct_scalar(node))


# PyYAML speaks YAML 1.1, to which 5e-4 is a text, 010 is eight, 1:30 is ninety, no is false, 2026-01-31 is a date.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
):
    _starts = [*_first, ""] if _tag == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _starts)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)


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
        problem = error.problem or error.context or "unreadable"
        # Some problems are the second half of a sentence.
        story = f"{error.context}, {problem}" if problem.startswith("but ") else problem
        raise UsageError(f"{where}{line}: malformed YAML: {story}") from None
    except yaml.reader.ReaderError as error:
        line = str(text.count("\n", 0, error.position) + 1)
        raise UsageError(f"{where}:{line}: malformed YAML: unacceptable character {chr(error.character)!r}") from None
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
