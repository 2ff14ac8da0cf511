"""Free memory and processors are what the control groups around this process leave of the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from kdzoo.engine import resources

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
    monkeypatch.setattr(resources, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "root")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100 * GIB}))
    return tmp_path / "cgroup"


def test_a_limit_counts_without_files_that_make_room(own: Path, tmp_path: Path) -> None:
    own.write_text("0::/slurm/job_7\n")
    group(tmp_path / "root/slurm/job_7", str(8 * GIB), 3 * GIB, stale=GIB)
    assert resources.free_memory() == 6 * GIB


def test_the_tightest_of_nested_groups_counts(own: Path, tmp_path: Path) -> None:
    own.write_text("0::/slurm/job_7/step_0\n")
    group(tmp_path / "root/slurm/job_7/step_0", "max", GIB)
    group(tmp_path / "root/slurm/job_7", str(4 * GIB), GIB)
    group(tmp_path / "root/slurm", str(50 * GIB), GIB)
    assert resources.free_memory() == 3 * GIB


def test_the_first_version_of_groups(own: Path, tmp_path: Path) -> None:
    own.write_text("12:cpu,cpuacct:/a\n5:memory:/a\n")
    group(tmp_path / "root/memory/a", str(2 * GIB), GIB // 2, version=1)
    assert resources.free_memory() == 3 * GIB // 2


def test_a_group_that_took_more_than_its_limit_has_nothing(own: Path, tmp_path: Path) -> None:
    own.write_text("0::/\n")
    group(tmp_path / "root", str(GIB), 2 * GIB)
    assert resources.free_memory() == 0


@pytest.mark.parametrize("lines", [None, "0::/elsewhere\n", "4:cpu:/a\n"])
def test_without_a_limit_the_machine_counts(lines: str | None, own: Path) -> None:
    if lines:
        own.write_text(lines)
    assert resources.free_memory() == 100 * GIB


@pytest.fixture
def eight(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same on a machine with eight processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return own


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({"slurm/job_7": "250000 100000"}, 3),
        ({"slurm/job_7": "max 100000", "slurm": "400000 100000"}, 4),
        ({"slurm/job_7": "600000 100000", "slurm": "200000 100000"}, 2),
        ({"slurm/job_7": "1000 100000"}, 1),
        ({"slurm/job_7": "1600000 100000"}, 8),
        ({"slurm/job_7": "max 100000"}, 8),
        ({"slurm/job_7": "odd"}, 8),
        ({}, 8),
    ],
)
def test_the_tightest_share_of_the_processors_counts(
    quotas: dict[str, str], cores: int, eight: Path, tmp_path: Path
) -> None:
    eight.write_text("0::/slurm/job_7\n")
    for name, quota in quotas.items():
        folder = tmp_path / "root" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(quota + "\n")
    assert resources.usable_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("150000", 2), ("-1", 8)])
def test_a_share_by_the_first_version_of_groups(quota: str, cores: int, eight: Path, tmp_path: Path) -> None:
    eight.write_text("5:memory:/a\n3:cpu,cpuacct:/a\n")
    folder = tmp_path / "root/cpu/a"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert resources.usable_cores() == cores
