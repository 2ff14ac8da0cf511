"""YAML as kdzoo reads it: safe, no key twice, and plain values as in YAML 1.2 (but decimal numbers only)."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from kdzoo.errors import OddFileError, UsageError, os_reason, unknown
from kdzoo.files import MOST_TEXT, from_home, read_plain
from kdzoo.foreign import printable

_YAML = "tag:yaml.org,2002:"
_MOST = 10**18
_LONGEST_NUMBER = 1000
_SHOWN = 43
_PLAIN: dict[str, re.Pattern[str]] = {}
"""How each kind of plain value is written."""


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

    def construct_null(self, node: yaml.ScalarNode) -> None:
        """Nothing, where nothing is written."""
        self._written(node, "null", "null")

    def construct_bool(self, node: yaml.ScalarNode) -> bool:
        """As it is written; no other word for it."""
        return self._written(node, "bool", "true or false").lower() == "true"

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """Always decimal, whatever zeros it begins with."""
        text = self._written(node, "int", "a whole number")
        number = int(text) if len(text) < _LONGEST_NUMBER else _MOST  # int() itself refuses a few thousand digits
        if abs(number) >= _MOST:
            raise _wrong(node, f"{printable(text, _SHOWN)!r} is too large: whole numbers have at most 18 digits")
        return number

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """Decimal, or an infinity, which the typed values refuse by name."""
        text = self._written(node, "float", "a number").lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))

    def refuse_tag(self, node: yaml.Node) -> None:
        """Dates, sets, binary data and other languages' objects: no key has such a value."""
        tag = printable(node.tag.replace(_YAML, "!!"), _SHOWN)
        raise _wrong(node, f"the tag {tag!r} is not read: values are texts, numbers, true, false and null")

    def _written(self, node: yaml.ScalarNode, kind: str, what: str) -> str:
        """The text of a scalar, whose tag may have been written over it by hand."""
        text = str(self.construct_scalar(node))
        if not _PLAIN[kind].fullmatch(text):
            raise _wrong(node, f"{printable(text, _SHOWN)!r} is not {what}")
        return text


def _wrong(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


# PyYAML speaks YAML 1.1, to which 5e-4 is a text, 010 is eight, 1:30 is ninety, no is false, 2026-01-31 is a date.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _PLAIN[_tag] = re.compile(_pattern)
    _starts = [*_first, ""] if _tag == "null" else list(_first)
    _Loader.add_implicit_resolver(f"{_YAML}{_tag}", re.compile(f"(?:{_pattern})\\Z"), _starts)
_Loader.yaml_constructors = {
    f"{_YAML}null": _Loader.construct_null,
    f"{_YAML}bool": _Loader.construct_bool,
    f"{_YAML}int": _Loader.construct_whole_number,
    f"{_YAML}float": _Loader.construct_number,
    f"{_YAML}str": _Loader.construct_yaml_str,
    f"{_YAML}seq": _Loader.construct_yaml_seq,
    f"{_YAML}map": _Loader.construct_yaml_map,
    None: _Loader.refuse_tag,
}


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


def read_yaml(kind: Literal["bench", "recipes"], source: str) -> dict[str, Any]:
    """The mapping in a shipped file (``quick``) or in a file of the user's own (``path/to/mine.yaml``).

    Raises:
        UsageError: there is no such file, or it is not a YAML mapping; the line is named.
    """
    path = Path(from_home(source))
    if source in shipped(kind):
        text = (_folder(kind) / f"{source}.yaml").read_text(encoding="utf-8")
    elif path.suffix in (".yaml", ".yml") or _is_file(path):
        try:
            text = read_plain(path, MOST_TEXT).decode()
        except OddFileError as error:
            raise UsageError(f"{source} {error}; give a YAML file") from None
        except OSError as error:
            raise UsageError(f"{source} cannot be read: {os_reason(error)}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{source} cannot be read: it is not UTF-8 text") from None
    else:
        noun = {"bench": "bench", "recipes": "recipe"}[kind]
        raise UsageError(f"{unknown(noun, source, shipped(kind))} (a file of your own ends in .yaml)")
    return read_mapping(text, source)


def shipped(kind: Literal["bench", "recipes"]) -> list[str]:
    """Names of the benches or recipes that come with kdzoo."""
    return sorted(path.name.removesuffix(".yaml") for path in _folder(kind).iterdir() if path.name.endswith(".yaml"))


def _folder(kind: str) -> Any:
    package = resources.files("kdzoo")
    installed = package / "configs" / kind
    # In a checkout installed in place the files are still where they are edited, beside the package.
    return installed if installed.is_dir() else Path(str(package)).parent / "configs" / kind


def _is_file(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, for example
        return False
