"""``kdzoo new`` in this process, and what it writes laid out as an installer would leave it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from kdzoo.cli import app
from kdzoo.errors import UsageError


@pytest.fixture
def new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run ``kdzoo new`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["new", *map(str, arguments)])


@pytest.fixture
def refused(new: Callable[..., Result]) -> Callable[..., str]:
    """Run ``kdzoo new``, which must refuse; the sentence that it says."""

    def run(*arguments: object) -> str:
        result = new(*arguments)
        assert isinstance(result.exception, UsageError), result.output
        assert result.stdout == ""
        return str(result.exception)

    return run


@pytest.fixture(scope="session")
def lay_out() -> Callable[[Path, Path], dict[str, str]]:
    """Make a project importable from a folder, with its metadata; the environment for processes that shall see it."""

    def run(project: Path, site: Path) -> dict[str, str]:
        about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
        points = "".join(f"{key} = {value}\n" for key, value in about["entry-points"]["kdzoo"].items())
        (info / "entry_points.txt").write_text(f"[kdzoo]\n{points}")
        return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(project)])}

    return run
