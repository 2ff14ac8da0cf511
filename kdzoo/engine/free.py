"""What this process may use of its machine: processors, and memory within its control group. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes that this process may still take.

    A container or a job of Slurm may have less than its machine; who takes more is killed.
    """
    return min([psutil.virtual_memory().available, *_left(OWN, ROOT)])


def _left(own: Path, root: Path) -> Iterator[int]:
    """What is left of each limit on this process, of both versions of control groups; of Linux alone."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, name = line.split(":", 2)
        if not kinds:
            yield from _of_folders(root, name, "memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _of_folders(root / "memory", name, *files)


def _of_folders(root: Path, name: str, limit: str, usage: str, cache: str) -> Iterator[int]:
    """Of a group and those around it. In a container the name may be the machine's, and only the root is found."""
    inside = PurePosixPath(name.lstrip("/"))
    for folder in dict.fromkeys(root / each for each in (inside, *inside.parents)):
        try:
            most, taken = ((folder / file).read_text().strip() for file in (limit, usage))
            # Files that are kept in memory and were not used lately make room when it is needed.
            stale = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines()).get(cache, "0")
        except (OSError, ValueError):
            continue
        if most.isdigit():
            yield max(0, int(most) - int(taken) + int(stale))
