"""The files of a new distribution, from the templates in this folder."""

from __future__ import annotations

from dataclasses import dataclass

from kdzoo.errors import UsageError, unknown
from kdzoo.scaffold.names import Names
from kdzoo.scaffold.templating import FAMILIES, Kind, fill


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
    return [File(path, fill(template, values) if template else "", what) for path, template, what in own + common]
