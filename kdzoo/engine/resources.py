"""What this process may use of its machine: processors and memory, within its control groups. No torch here."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Processors that this process may use; a container's share of them counts, rounded up."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([own, *(math.ceil(share) for share in _shares())]))


def free_memory() -> int:
    """Bytes that this process may still take.

    A container or a job of Slurm may have less than its machine; who takes more is killed.
    """
    return min([psutil.virtual_memory().available, *_left()])


def _shares() -> Iterator[float]:
    """Processors that each limit on this process leaves it."""
    for version, folder in _groups("cpu"):
        try:
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except (OSError, ValueError):
            continue
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and -1 are no limit
            yield int(quota) / int(period)


def _left() -> Iterator[int]:
    """Bytes that are left of each limit on this process."""
    for version, folder in _groups("memory"):
        if version == 2:
            limit, usage, cache = "memory.max", "memory.current", "inactive_file"
        else:
            limit, usage, cache = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        try:
            most, taken = ((folder / file).read_text().strip() for file in (limit, usage))
            # Files that are kept in memory and were not used lately make room when it is needed.
            stale = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines()).get(cache, "0")
        except (OSError, ValueError):
            continue
        if most.isdigit():
            yield max(0, int(most) - int(taken) + int(stale))


def _groups(kind: str) -> Iterator[tuple[int, Path]]:
    """The folders of the control groups around this process that may limit one kind of thing, with the version of the
    groups; of Linux alone."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, name = line.split(":", 2)
        if kinds and kind not in kinds.split(","):
            continue
        version, root = (1, CGROUPS / kind) if kinds else (2, CGROUPS)
        # In a container the name may be the machine's, and only the root is found.
        inside = PurePosixPath(name.lstrip("/"))
        for folder in dict.fromkeys(root / each for each in (inside, *inside.parents)):
            yield version, folder
