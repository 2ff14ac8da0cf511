"""Free memory is what the control groups around this process leave of the machine's."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from kdzoo.engine import free

GIB = 2**30


def group(folder: Path, limit: str, taken: int, stale: int = 0, version: int = 2) -> None:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(names, (limit, str(taken)), strict=True):
        (folder / name).write_text(content + "\n")
    prefix = "" if version == 2 else "total_"
    (folder / "memory.stat").write_text(f"anon 5\n{prefix}inactive_file {stale}\n")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the groups of this process stand; its machine has 100 GiB free."""
    monkeypatch.setattr(free, "OWN", tmp_path / "cgroup")
    monkeypatch.setattr(free, "ROOT", tmp_path / "root")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100 * GIB}))
    return tmp_path / "cgroup"


def test_a_limit_counts_without_files_that_make_room(own: Path, tmp_path: Path) -> None:
    own.write_text("0::/slurm/job_7\n")
    group(tmp_path / "root/slurm/job_7", str(8 * GIB), 3 * GIB, stale=GIB)
    assert free.free_memory() == 6 * GIB


def test_the_tightest_of_nested_groups_counts(own: Path, tmp_path: Path) -> None:
    own.write_text("0::/slurm/job_7/step_0\n")
    group(tmp_path / "root/slurm/job_7/step_0", "max", GIB)
    group(tmp_path / "root/slurm/job_7", str(4 * GIB), GIB)
    group(tmp_path / "root/slurm", str(50 * GIB), GIB)
    assert free.free_memory() == 3 * GIB


def test_the_first_version_of_groups(own: Path, tmp_path: Path) -> None:
    own.write_text("12:cpu,cpuacct:/a\n5:memory:/a\n")
    group(tmp_path / "root/memory/a", str(2 * GIB), GIB // 2, version=1)
    assert free.free_memory() == 3 * GIB // 2


def test_a_group_that_took_more_than_its_limit_has_nothing(own: Path, tmp_path: Path) -> None:
    own.write_text("0::/\n")
    group(tmp_path / "root", str(GIB), 2 * GIB)
    assert free.free_memory() == 0


@pytest.mark.parametrize("lines", [None, "0::/elsewhere\n", "4:cpu:/a\n"])
def test_without_a_limit_the_machine_counts(lines: str | None, own: Path) -> None:
    if lines:
        own.write_text(lines)
    assert free.free_memory() == 100 * GIB
