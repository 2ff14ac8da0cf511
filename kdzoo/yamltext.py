"""YAML as kdzoo reads it: texts, the benches and recipes that come with it or are a person's own, and typed values."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from kdzoo.errors import OddFileError, UsageError, os_reason, unknown
from kdzoo.files import MOST_TEXT, from_home, read_plain
from kdzoo.foreign import printable

_YAML = "tag:yaml.org,2002:"
_MOST = 10**18
_LONGEST_NUMBER = 1000
_SHOWN = 43
_PLAIN: dict[str, re.Pattern[str]] = {}
"""How each kind of plain value is written."""


_M = TypeVar("_M", bound=BaseModel)
_MUST_BE = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "below {lt:g}",
    "literal_error": "{expected}",
}


class _Loader(yaml.SafeLoader):
    """safe_load that refuses a key given twice, which YAML lets pass with the last value."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} appears twice", key.start_mark)
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
        names = shipped(kind)
        told = unknown(noun, source, names)
        rest = "" if "; known: " in told else f" Shipped: {', '.join(names)}"
        raise UsageError(f"{told}{rest} (a file of your own ends in .yaml)")
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


def validate(model: type[_M], values: Mapping[str, Any], where: str, names: Mapping[str, str] | None = None) -> _M:
    """Build a typed value from YAML's plain ones, with one clear sentence where that fails.

    Args:
        model: what to build.
        values: its keys and values.
        where: the file, for the sentence.
        names: keys that come from elsewhere -> what the sentence calls them, such as ``--seeds``.

    Raises:
        UsageError: naming a wrong key, with the closest known names if it is unknown.
    """
    try:
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        # An unknown key comes first: it is often why another one is missing.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        raise UsageError(_sentence(model, first, where, names or {})) from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from None


def _sentence(model: type[BaseModel], error: Any, where: str, names: Mapping[str, str]) -> str:
    """pydantic's error in our words. A validator's own message begins with the key, or with ``must``."""
    if not error["loc"]:
        return f"{where}: {error['ctx']['error']}"
    key, *inner = map(str, error["loc"])
    fields = model.model_fields
    nested = getattr(fields[key].annotation, "model_fields", None) if key in fields else None
    if error["type"] == "extra_forbidden":
        return f"{where}: " + unknown("key", inner[0] if inner else key, nested if inner and nested else fields)
    name = names.get(".".join([key, *inner[:1]])) or names.get(key) or ".".join([f"{where}: {key}", *inner])
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"]).removeprefix(f"{key} ")
        return f"{name} {message}" if message.startswith("must") else f"{name}: {message}"
    if error["type"] == "missing":
        return f"{name} is missing"
    if error["type"] == "too_short":
        return f"{name} must name at least one"
    value = "null" if error["input"] is None else reprlib.repr(error["input"])
    must = _MUST_BE.get(error["type"])
    return f"{name} must be {must.format(**error.get('ctx', {}))}, not {value}" if must else f"{name}: {error['msg']}"
