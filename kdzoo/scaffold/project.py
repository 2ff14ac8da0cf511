"""The files of a new distribution, from the templates in this folder."""

from __future__ import annotations

import ast
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from kdzoo.api import API_VERSION
from kdzoo.errors import UsageError, unknown
from kdzoo.scaffold.names import Names

Kind = Literal["strategy", "dataset"]

FAMILIES = ("response", "feature", "attention", "relation", "contrastive")
MODULES: Mapping[Kind, tuple[str, ...]] = {
    "strategy": ("strategy/init.py.j2", *(f"strategy/{family}/strategy.py.j2" for family in FAMILIES)),
    "dataset": ("dataset/init.py.j2", "dataset/dataset.py.j2"),
}
"""The templates in which the class of a new plugin is defined or imported."""

_CLASS = "ClassOfThePlugin"


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
def names_in_modules(kind: Kind) -> frozenset[str]:
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


def _render(names: Names, kind: Kind, family: str, own: list[tuple[str, str, str]]) -> list[File]:
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


def write_project(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a new folder, or into one that is there and empty.

    All is first written beside its place and then moved into it. Where anything fails, nothing is left.

    Args:
        folder: the folder; those above it are made too.
        files: text by path, relative to the folder, with / between the parts.

    Raises:
        UsageError: the folder holds something, is a file, or cannot be written.
    """
    # Not resolved, since a link that leads nowhere is refused below; but without .., which would name a folder that is
    # made on the way there.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100
    _check_empty(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            whole = Path(scratch) / folder.name
            for path, text in files.items():
                target = whole / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                _move_into(whole, folder)
            else:
                whole.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {(error.strerror or str(error)).lower()}") from None


def _check_empty(folder: Path) -> None:
    if folder.is_symlink() or folder.exists():
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file: name another folder with --dir")
        there = sorted(path.name for path in folder.iterdir())
        if there:
            more = f" and {len(there) - 3:,} more" if len(there) > 3 else ""
            raise UsageError(
                f"{folder} holds {', '.join(there[:3])}{more}, and nothing is written over: name a new or empty folder "
                "with --dir"
            )


def _move_into(whole: Path, folder: Path) -> None:
    """Move a folder's content into an empty one, which may be somebody's current folder and so cannot be replaced."""
    moved: list[Path] = []
    try:
        for part in sorted(whole.iterdir()):
            part.rename(folder / part.name)
            moved.append(folder / part.name)
    except OSError:
        for path in moved:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise
