"""What `kdzoo new` writes works: its tests pass, it trains, installs, and keeps to the linters' rules."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import output_of

from kdzoo.cli import app
from kdzoo.scaffold.project import FAMILIES, LONGEST_PROJECT_NAME

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).resolve().parents[2]
KDZOO = [sys.executable, "-c", "from kdzoo.cli import main; main()"]
PROJECTS = {**{f"my-{family}": ("--family", family) for family in FAMILIES}, "my-data": ("--dataset",)}


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of each kind, as the command writes it."""
    folder = tmp_path_factory.mktemp("projects")
    for name, options in PROJECTS.items():
        result = CliRunner().invoke(app, ["new", name, *options, "--dir", str(folder / name)])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def environment(
    projects: Path, tmp_path_factory: pytest.TempPathFactory, lay_out: Callable[[Path, Path], dict[str, str]]
) -> dict[str, str]:
    """The environment of processes that see all of the projects installed."""
    site = tmp_path_factory.mktemp("site")
    paths = [lay_out(projects / name, site)["PYTHONPATH"] for name in PROJECTS]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_all_their_tests_pass(projects: Path, environment: dict[str, str]) -> None:
    """In one process, which imports torch once; modules of the same name are kept apart by the import mode."""
    asked = ["-q", "-rA", "--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist"]
    told = output_of(sys.executable, "-m", "pytest", *asked, *sorted(PROJECTS), cwd=projects, env=environment)
    passed = [line for line in told.splitlines() if line.startswith("PASSED ")]
    assert sum("::test_the_conformance_kit_finds_no_fault" in line for line in passed) == len(FAMILIES)
    assert sum("::test_the_entry_point_brings_the_" in line for line in passed) == len(PROJECTS)


def test_they_are_listed_and_train_in_one_bench(projects: Path, environment: dict[str, str], tmp_path: Path) -> None:
    listed, last = {}, ""
    for line in output_of(*KDZOO, "strategies", env=environment).splitlines()[2:]:
        # The family stands in its first line only.
        last, *words = line.split() if not line.startswith(" ") else [last, *line.split()]
        listed[words[0]] = (last, words[-1])
    for family in FAMILIES:
        assert listed[f"my-{family}"] == (family, f"kdzoo-my-{family}")
    names = ",".join(f"my-{family}" for family in FAMILIES)
    pair = ["--teacher", "test_resnet", "--student", "test_resnet"]
    small = [*pair, "--seeds", 1, "--epochs", 1, "--teacher-epochs", 3, "--device", "cpu"]
    board = output_of(
        *KDZOO, "bench", "--dataset", "my-data", "--strategies", names, *small, env=environment, cwd=tmp_path
    )
    rows = [line.split() for line in board.splitlines()]
    for name in ("ce", *(f"kdzoo-my-{family}:my-{family}" for family in FAMILIES)):
        assert any(row[1:2] == [name] and "1/1" in row for row in rows), board


@pytest.mark.parametrize("editable", [["-e"], []])
def test_one_installs_in_an_environment_of_its_own(editable: list[str], projects: Path, tmp_path: Path) -> None:
    """As its README says, but for what is there already: kdzoo, and the build backend where it is."""
    shutil.copytree(projects / "my-contrastive", tmp_path / "project")
    output_of(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    base = {"base": str(tmp_path / "venv")}
    python = Path(sysconfig.get_path("scripts", "venv", base)) / "python"
    site = Path(sysconfig.get_path("purelib", "venv", base))
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("import site; " + "; ".join(f"site.addsitedir({path!r})" for path in ours) + "\n")
    there = ["--no-build-isolation"] if has("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    output_of(*pip, *there, *editable, ".", cwd=tmp_path / "project")
    told = output_of(python, *KDZOO[1:], "plugins", cwd=tmp_path)
    row = next(line.split() for line in told.splitlines() if line.startswith("my-contrastive"))
    assert row[:4] == ["my-contrastive", "kdzoo-my-contrastive", "0.1.0", "my-contrastive"]
    assert row[-1] == "ok"
    where = output_of(python, "-c", "import kdzoo_my_contrastive as one; print(one.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path / "project") == bool(editable)


@pytest.mark.skipif(not has("ruff"), reason="ruff is not installed")
@pytest.mark.parametrize("letters", [1, LONGEST_PROJECT_NAME])
def test_ruff_is_content_whatever_the_length_of_the_name(letters: int, tmp_path: Path) -> None:
    """By its own defaults, by the project's settings, and by the rules that kdzoo keeps."""
    ruff = [sys.executable, "-m", "ruff"]
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    rules = ["--select", ",".join(ours["lint"]["select"]), "--ignore", ",".join(ours["lint"]["ignore"])]
    rules += ["--config", f"line-length={ours['line-length']}"]
    rules += ["--config", 'lint.per-file-ignores={"tests/**" = ["D1", "PLR"]}']
    for name, options in PROJECTS.items():
        folder = tmp_path / name
        assert CliRunner().invoke(app, ["new", "q" * letters, *options, "--dir", str(folder)]).exit_code == 0
        for more in ([], ["--isolated"], rules):
            output_of(*ruff, "check", "--no-cache", *more, ".", cwd=folder)
        for more in ([], ["--isolated"]):
            output_of(*ruff, "format", "--no-cache", "--check", *more, ".", cwd=folder)


@pytest.mark.skipif(not has("mypy"), reason="mypy is not installed")
def test_mypy_is_content(projects: Path, tmp_path: Path) -> None:
    """One run for all; the tests, whose modules have the same names, are checked under names of their own."""
    checked = []
    for name in PROJECTS:
        (test,) = (projects / name / "tests").glob("test_*.py")
        checked.append(shutil.copy(test, tmp_path / f"test_{name.replace('-', '_')}.py"))
        checked += sorted((projects / name).glob("kdzoo_my_*"))
    path = os.pathsep.join(str(projects / name) for name in PROJECTS)
    output_of(
        *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", *checked),
        env={**os.environ, "MYPYPATH": path},
        cwd=tmp_path,
    )


def test_the_template_is_what_the_command_writes(tmp_path: Path) -> None:
    """After a change, make it anew: kdzoo new my-strategy --family feature --dir plugins/template"""
    command = ["new", "my-strategy", "--family", "feature", "--dir", str(tmp_path / "template")]
    assert CliRunner().invoke(app, command).exit_code == 0

    def files(folder: Path) -> dict[str, str]:
        passing = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
        paths = [path for path in folder.rglob("*") if path.is_file() and not passing & set(path.parts)]
        return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}

    assert files(ROOT / "plugins" / "template") == files(tmp_path / "template")
