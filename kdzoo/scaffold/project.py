"""What ``kdzoo new`` writes: the names of a new distribution, and its files from the templates in this folder."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

import kdzoo
from kdzoo.api import API_VERSION, RESERVED
from kdzoo.errors import UsageError, unknown

ProjectKind = Literal["strategy", "dataset"]

FAMILIES = ("response", "feature", "attention", "relation", "contrastive")
MODULES: Mapping[ProjectKind, tuple[str, ...]] = {
    "strategy": ("strategy/init.py.j2", *(f"strategy/{family}/strategy.py.j2" for family in FAMILIES)),
    "dataset": ("dataset/init.py.j2", "dataset/dataset.py.j2"),
}
"""The templates in which the class of a new plugin is defined or imported."""

_CLASS = "ClassOfThePlugin"

LONGEST_PROJECT_NAME = 40
_FORM = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_MEANT = frozenset({*dir(builtins), *keyword.kwlist, *kdzoo.__all__})


@dataclass(frozen=True)
class Names:
    """The names of a new plugin.

    Args:
        name: what the command line calls the strategy or dataset.
        distribution: what pip calls the package.
        package: what Python imports.
        class_name: the class.
    """

    name: str
    distribution: str
    package: str
    class_name: str


@dataclass(frozen=True)
class File:
    """One file of a distribution.

    Args:
        path: relative to the distribution's folder, with / between the parts.
        text: its content.
        what: what it is for, in a few words.
    """

    path: str
    text: str
    what: str


def read_name(text: str, kind: ProjectKind = "strategy") -> Names:
    """All names that follow from one, for example ``my-strategy``: kdzoo-my-strategy, kdzoo_my_strategy, MyStrategy.

    Args:
        text: the name as the person gave it.
        kind: what it shall name; the class takes it as a suffix where its own name means something already.

    Raises:
        UsageError: it cannot be a name; whether it is taken is :func:`kdzoo.cli.new.check_free`'s question.
    """
    if not _FORM.fullmatch(text):
        close = "_".join(re.findall(r"[a-z0-9]+", text.lower()))
        example = close if _FORM.fullmatch(close) else "my-strategy"
        raise UsageError(
            f"{text!r} cannot be a name: it starts with one of a-z followed by a-z, 0-9 and single - or _, "
            f"for example {example}"
        )
    if len(text) > LONGEST_PROJECT_NAME:
        raise UsageError(
            f"{text!r} is too long, {len(text)} characters: choose a name of at most {LONGEST_PROJECT_NAME}"
        )
    if re.match(r"kdzoo(?![a-z0-9])", text):
        raise UsageError(f"leave the kdzoo out of {text!r}: it is put in front of the distribution's name anyway")
    if keyword.iskeyword(text):
        raise UsageError(f"{text!r} is a word of the Python language: choose another name")
    if text in RESERVED:
        raise UsageError(f"{text!r} has a meaning of its own on the command line: choose another name")
    parts = re.split("[-_]", text)
    class_name = "".join(part.capitalize() for part in parts)
    if class_name in _MEANT | names_in_modules(kind):
        class_name += kind.capitalize()
    return Names(text, "-".join(["kdzoo", *parts]), "_".join(["kdzoo", *parts]), class_name)


def strategy_files(names: Names, family: str) -> list[File]:
    """A distribution with a strategy that trains at once, the most telling file first.

    Args:
        names: of the strategy.
        family: one of :data:`FAMILIES`; each starts from another loss and other signals.

    Raises:
        UsageError: there is no such family.
    """
    if family not in FAMILIES:
        raise UsageError(unknown("family", family, FAMILIES))
    return _render(
        names,
        "strategy",
        family,
        [
            (f"{names.package}/strategy.py", f"strategy/{family}/strategy.py.j2", "the loss and the strategy"),
            ("tests/test_strategy.py", f"strategy/{family}/test.py.j2", "a plain loop, and the conformance kit"),
        ],
    )


def dataset_files(names: Names) -> list[File]:
    """A distribution with a small dataset that loads at once, the most telling file first."""
    return _render(
        names,
        "dataset",
        "",
        [
            (f"{names.package}/dataset.py", "dataset/dataset.py.j2", "the images and the dataset"),
            ("tests/test_dataset.py", "dataset/test.py.j2", "its tests"),
        ],
    )


def _render(names: Names, kind: ProjectKind, family: str, own: list[tuple[str, str, str]]) -> list[File]:
    common = [
        ("README.md", f"{kind}/README.md.j2", "its card"),
        ("pyproject.toml", "pyproject.toml.j2", "the distribution, and the entry point by which kdzoo finds it"),
        (f"{names.package}/__init__.py", f"{kind}/init.py.j2", "what the entry point names"),
        (f"{names.package}/py.typed", "", "its type hints count"),
        (".github/workflows/tests.yml", "workflow.yml.j2", "runs the tests on GitHub"),
        ("LICENSE", "LICENSE.j2", "MIT"),
        (".gitignore", "gitignore.j2", "what is left out of git"),
    ]
    values = {
        "name": names.name,
        "distribution": names.distribution,
        "package": names.package,
        "class_name": names.class_name,
        "kind": kind,
        "family": family,
    }
    return [
        File(path, render_template(template, values) if template else "", what) for path, template, what in own + common
    ]


def render_template(template: str, values: Mapping[str, str]) -> str:
    """The text of a template.

    Args:
        template: its path in the folder of templates.
        values: those of a plugin: name, distribution, package, class_name, kind and family.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            api_version=API_VERSION,
            # Without what a local build adds to a version, which may not stand behind >=.
            kdzoo_version=version("kdzoo").partition("+")[0],
        )
    )


@cache
def names_in_modules(kind: ProjectKind) -> frozenset[str]:
    """What the modules of a new plugin define, import or use, of any family: its class may have none of these names.

    They are read from the modules themselves, so that a template that changes takes its names along.
    """
    values = {"name": "x", "distribution": "x", "package": "x", "class_name": _CLASS, "kind": kind, "family": ""}
    trees = [ast.parse(render_template(template, values)) for template in MODULES[kind]]
    return frozenset(name for tree in trees for node in ast.walk(tree) for name in _names(node)) - {_CLASS}


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, ast.Name):
        yield node.id


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("kdzoo.scaffold"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
