"""The tutorial's package by the whole kit, and on a board; a test of a third party follows the page word by word."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_pages import blocks, run_kdzoo, shown_commands, write_files

from kdzoo.store import Store

PAGE = "docs/tutorial.md"
SMALL = ["--dataset", "digits[:600]", "--teacher", "test_resnet", "--student", "test_resnet", "--seeds", "1"]
SHORT = [*SMALL, "--epochs", "1", "--teacher-epochs", "3", "--device", "cpu"]


def command(start: str) -> str:
    """The one command of the page that starts so."""
    (found,) = {line for line in shown_commands(PAGE) if line.startswith(start)}
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package with the page's files in it, and its metadata, as an installer would leave them."""
    monkeypatch.chdir(tmp_path)
    run_kdzoo(command("kdzoo new "))
    project = tmp_path / "kdzoo-mine"
    for block in blocks(PAGE, "python"):
        assert (project / str(block.title)).is_file()  # the page speaks of files that are there
    write_files(PAGE, project)
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / f"kdzoo_mine-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    points = "".join(f"{key} = {value}\n" for key, value in about["entry-points"]["kdzoo"].items())
    (info / "entry_points.txt").write_text(f"[kdzoo]\n{points}")
    for place in (tmp_path, project):
        monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(project)
    yield project
    for module in [name for name in sys.modules if name.partition(".")[0] == "kdzoo_mine"]:
        del sys.modules[module]


@pytest.mark.exhaustive
def test_it_conforms(project: Path) -> None:
    told = run_kdzoo(command("kdzoo check-strategy"))
    assert "mine (kdzoo-mine 0.1.0): " in told
    assert "failed" not in told


def test_it_is_listed_shown_and_compared(project: Path) -> None:
    assert "kdzoo-mine" in run_kdzoo("kdzoo strategies")
    assert "Kaixiang Zheng" in run_kdzoo("kdzoo strategies show mine")
    bench = command("kdzoo bench --strategies")
    assert run_kdzoo(bench, *SHORT).count("1/1") == 3
    records = {record.cell.strategy.name: record for record in Store.open(project / "runs").records()}
    assert records["mine"].cell.strategy.distribution == "kdzoo-mine"
    assert records["mine"].status == "done"
    assert set(records["mine"].curve[0].terms) == {"ce", "matching"}
    assert "mine" in run_kdzoo("kdzoo board")
