"""The text of configuration.md, made from the code: keys, flags, shipped files, exit codes, columns of a board."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from tabulate import tabulate

from kdzoo.board.columns import COLUMNS, Column
from kdzoo.cli import app, main
from kdzoo.config import BenchConfig
from kdzoo.flags import OPTIONS
from kdzoo.recipe import Augment, Recipe

ROOT = Path(__file__).resolve().parent.parent
_ARGUMENT = re.compile(r"    (\w+): (.*)")
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_WORDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}

INTRODUCTION = """\
# Configuration reference

- A bench is a YAML file or a shipped name, passed as `--config`. The default is `quick`.
- Every key is also a flag of `kdzoo bench` and `kdzoo tune`, with `-` instead of `_`. Only `pairs` has no flag.
- Flags override the file.
- YAML is read with `safe_load`. `5e-4` is a number; a duplicate key is an error.

`python docs/generate.py` makes this page from the code, and a test compares the two. Edit `kdzoo/flags.py`, the
docstrings and the files in `configs/`, not this page.
"""

RECIPE = """\
## Recipe

These are the keys of the files for `--recipe` and `--teacher-recipe`. The recipe's name is the file's name, unless the
file sets `name`. On the command line, write `--set recipe.KEY=VALUE`, with a dot for `augment`:
`--set recipe.augment.crop=4`. `--set recipe.KEY`, `--epochs` and `--precision` change the teacher's recipe too;
`--teacher-epochs` overrides `--epochs` there.

A file may also have `teacher`: a mapping of keys, written as after `recipe.`, whose values differ for a teacher. It
applies if no recipe is named for the teacher (`--teacher-recipe`).

timm's `sgd` has Nesterov momentum; `momentum` is SGD with plain momentum.

"""

EXIT_CODES = """
The exit code is also `1` if

- a strategy cannot serve a pair (the other cells ran);
- `kdzoo board` left out files that it could not read;
- `kdzoo check` found a fault;
- `kdzoo publish` or `kdzoo merge` refused and wrote nothing, or published something in which `kdzoo check` will find a
  fault.

`--dry-run` and `--plan` exit with `0` also if strategies cannot serve a pair; they print a warning for each.
"""


def configuration_page() -> str:
    """The whole page."""
    sections = [
        INTRODUCTION,
        "## Bench\n\n" + model_table(BenchConfig),
        RECIPE + model_table(Recipe),
        "### augment\n\n" + model_table(Augment),
        "## Shipped benches\n\n" + "\n".join(_file("bench", path) for path in _shipped("bench")),
        "## Shipped recipes\n\n" + "\n".join(_file("recipes", path) for path in _shipped("recipes")),
        "## Commands\n\n" + "\n".join(_commands()),
        "## Exit codes\n\n" + exit_codes() + EXIT_CODES,
        "## Columns of a board\n\nThe columns of `kdzoo board --format csv` and `json`, and the names for `--sort`.\n\n"
        + columns_table(COLUMNS),
    ]
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


def columns_table(columns: Iterable[Column]) -> str:
    """A table of the columns of a board's frame."""
    return table([[f"`{one.name}`", one.kind, one.help] for one in columns], ["column", "kind", "meaning"])


def model_table(model: type[BaseModel]) -> str:
    """A table of a pydantic model's keys: type, default and its line in the table of options or in the docstring."""
    help_of = {name: option.key or option.help for name, option in OPTIONS.items()}
    help_of = help_of if model is BenchConfig else arguments(model)
    schema = model.model_json_schema()
    rows = []
    for name, value in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else _default(value.get("default"))
        rows.append([f"`{name}`", words(value), default, help_of[name]])
    return table(rows, ["key", "value", "default", "meaning"])


def arguments(thing: object) -> dict[str, str]:
    """What the ``Args:`` part of a docstring says of each name."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in (inspect.getdoc(thing) or "").splitlines():
        if not inside or not line.startswith("    "):
            inside = line == "Args:"
        elif match := _ARGUMENT.fullmatch(line):
            name = match[1]
            found[name] = match[2]
        else:
            found[name] += " " + line.strip()
    return {name: text.replace("``", "`") for name, text in found.items()}


def words(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(words(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "prefixItems" in schema:
        return "[" + ", ".join(words(one) for one in schema["prefixItems"]) + "]"
    if schema.get("type") == "array":
        return f"list of {words(schema['items'])}"
    if "type" not in schema or schema["type"] == "object":
        return "mapping"
    bounds = [f"{word} {schema[key]:g}" for key, word in _BOUNDS.items() if key in schema]
    return " ".join([_WORDS[schema["type"]], " and ".join(bounds)]).strip()


def exit_codes() -> str:
    """The codes that the docstring of :func:`kdzoo.cli.main` lists."""
    _, _, listed = (inspect.getdoc(main) or "").partition("Exit codes: ")
    rows = [piece.strip().rstrip(".").split(" ", 1) for piece in listed.split(",")]
    return table([[f"`{code}`", meaning] for code, meaning in rows], ["code", "meaning"])


def _default(value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return "none"
    # A mapping's own keys have their own table.
    return "see below" if isinstance(value, dict) else f"`{json.dumps(value, default=str)}`".replace('"', "")


def _shipped(kind: str) -> list[Path]:
    return sorted((ROOT / "configs" / kind).glob("*.yaml"))


def _file(kind: str, path: Path) -> str:
    flag = {"bench": "--config", "recipes": "--recipe"}[kind]
    return f"### {path.stem}\n\n`{flag} {path.stem}`\n\n```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"


def _commands() -> Iterable[str]:
    group: Any = typer.main.get_command(app)
    bench = _flags(group.commands["bench"])
    for name, command in sorted(_leaves(group, "kdzoo")):
        about = " ".join((command.help or "").split("\n\n")[0].split())
        rows = _flags(command)
        if name != "kdzoo bench" and all(row in rows for row in bench):
            about += " It takes every flag of `kdzoo bench`, and these:"
            rows = [row for row in rows if row not in bench]
        yield f"### {name}\n\n{about}\n"
        yield table(rows, ["flag", "default", "meaning"])


def _flags(command: Any) -> list[list[str]]:
    rows = []
    for param in command.params:
        positional = param.param_type_name == "argument"
        shown = (param.metavar or param.name.upper()) if positional else ", ".join(param.opts)
        if not param.hidden and param.name != "help":
            given = "required" if param.required else _default(param.default or None)
            rows.append([f"`{shown}`", given, param.help])
    return rows


def _leaves(command: Any, name: str) -> Iterable[tuple[str, Any]]:
    for child, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "invoke_without_command", True):
            yield f"{name} {child}", inner
        yield from _leaves(inner, f"{name} {child}")


def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return str(tabulate(cells, headers=headers, tablefmt="pipe", disable_numparse=True)) + "\n"
