"""The templates of this folder: filled in, and read for the names that their modules use."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from kdzoo.api import API_VERSION

Kind = Literal["strategy", "dataset"]

FAMILIES = ("response", "feature", "attention", "relation", "contrastive")
MODULES: Mapping[Kind, tuple[str, ...]] = {
    "strategy": ("strategy/init.py.j2", *(f"strategy/{family}/strategy.py.j2" for family in FAMILIES)),
    "dataset": ("dataset/init.py.j2", "dataset/dataset.py.j2"),
}
"""The templates in which the class of a new plugin is defined or imported."""

_CLASS = "ClassOfThePlugin"


def fill(template: str, values: Mapping[str, str]) -> str:
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
def names_in_modules(kind: Kind) -> frozenset[str]:
    """What the modules of a new plugin define, import or use, of any family: its class may have none of these names.

    They are read from the modules themselves, so that a template that changes takes its names along.
    """
    values = {"name": "x", "distribution": "x", "package": "x", "class_name": _CLASS, "kind": kind, "family": ""}
    trees = [ast.parse(fill(template, values)) for template in MODULES[kind]]
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
