"""The command line in this process, plugins as installers leave them, and a bench that takes a second."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kdzoo.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

_numbers = count()

SHADES = '''
import numpy as np

from kdzoo import ArrayData, Dataset, Splits, hookimpl


class Shades(Dataset):
    """Dark and bright images, which anything learns in a few steps."""

    name = "shades"
    img_size = (8, 8)

    def load(self, data_dir, download):
        labels = np.arange(120, dtype=np.int64) % 2
        noise = np.random.default_rng(0).integers(0, 60, (120, 1, 8, 8))
        images = (noise + 190 * labels[:, None, None, None]).astype(np.uint8)
        return Splits(ArrayData(images[:80], labels[:80]), ArrayData(images[80:], labels[80:]), ("dark", "bright"))


@hookimpl
def kdzoo_datasets():
    return [Shades()]
'''


@dataclass(frozen=True)
class Result:
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def kdzoo() -> Callable[..., Result]:
    """Run a command as the installed script does."""

    def run(*arguments: Any) -> Result:
        out, err = io.StringIO(), io.StringIO()
        argv = mock.patch.object(sys, "argv", ["kdzoo", *map(str, arguments)])
        streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with argv, streams[0], streams[1], pytest.raises(SystemExit) as end:
            main()
        return Result(end.value.code or 0, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Lay out a distribution as an installer does; gives the file of its module."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def lay_out(name: str, code: str, *, version: str = "1.0") -> Path:
        module = f"plugin_api_module_{next(_numbers)}"
        (site / f"{module}.py").write_text(textwrap.dedent(code))
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[kdzoo]\n{name} = {module}\n")
        return site / f"{module}.py"

    return lay_out


@pytest.fixture
def plugin_file(tmp_path: Path) -> Callable[..., Path]:
    """A file for ``--plugin``."""

    def write(code: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(code))
        return path

    return write


@pytest.fixture(scope="session")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shades") / "shades.py"
    path.write_text(SHADES)
    return path


@pytest.fixture(scope="session")
def small(shades: Path) -> tuple[Any, ...]:
    """Arguments of a bench that takes about a second."""
    pair = ("--teacher", "test_resnet", "--student", "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1")
    short = ("--epochs", 2, "--teacher-epochs", 3, "--seeds", 1, "--set", "recipe.batch_size=8")
    return ("--plugin", shades, "--dataset", "shades", *pair, *short, "--device", "cpu")


@pytest.fixture
def records() -> Callable[..., dict[str, dict[str, Any]]]:
    """The records of a store by strategy, a teacher's under ``teacher``."""

    def read(out: Path = Path("runs")) -> dict[str, dict[str, Any]]:
        found = [json.loads(path.read_bytes()) for path in sorted(out.glob("cells/*/record.json"))]
        return {
            "teacher" if each["cell"]["kind"] == "teacher" else each["cell"]["strategy"]["name"]: each for each in found
        }

    return read
