"""What the scripts share: running a command of kdzoo, and telling a result with the machine it comes from."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from kdzoo.record import Record
from kdzoo.store import Store

PLUGIN = Path(__file__).with_name("patterns.py")


@dataclass(frozen=True)
class Run:
    """A command that ended: wall seconds from start to end, and its largest resident memory, that of the processes
    that it started included; bytes."""

    seconds: float
    peak: int
    output: str


def run(*arguments: str | Path) -> Run:
    """Run ``kdzoo`` in a process of its own.

    Raises:
        SystemExit: the command failed.
    """
    command = [sys.executable, "-c", "from kdzoo.cli import main; main()", *map(str, arguments)]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        watch = _Watch(process.pid)
        watch.start()
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.ended.set()
        watch.join()
    if process.returncode:
        sys.exit(f"{' '.join(command[3:])} ended with exit code {process.returncode}")
    # Linux gives KiB, macOS bytes; of the largest process, but to the last byte.
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(time.perf_counter() - began, max(watch.peak, usage.ru_maxrss * unit), output)


class _Watch(threading.Thread):
    """Looks every 0.1 s at the memory of a process and of those that it started."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self.ended = threading.Event()
        self.peak = 0
        self._pid = pid

    def run(self) -> None:
        while not self.ended.wait(0.1):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self._pid)
                self.peak = max(self.peak, sum(_resident(one) for one in (process, *process.children(recursive=True))))


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def records(store: Path) -> list[Record]:
    """The students' records of a store, in the order in which they ended."""
    return sorted((one for one in Store.open(store).records() if one.cell.kind == "student"), key=lambda one: one.ended)


def tell(
    name: str, settings: dict[str, Any], result: dict[str, Any], bounds: Mapping[str, tuple[float, float | None]]
) -> bool:
    """Print a table of figures against their bounds on standard error, and everything as JSON on standard output.

    Args:
        name: of the benchmark.
        settings: what was run.
        result: what was measured.
        bounds: figure -> (least, most); None for no bound above, 0 for none below.

    Returns:
        Whether every figure keeps its bounds.
    """
    kept = {
        figure: least <= result[figure] and (most is None or result[figure] <= most)
        for figure, (least, most) in bounds.items()
    }
    rows = [
        (figure, result[figure], f">= {least}" if most is None else f"<= {most}", "kept" if kept[figure] else "BROKEN")
        for figure, (least, most) in bounds.items()
    ]
    print(tabulate(rows, headers=("figure", "measured", "bound", "")), file=sys.stderr)
    print(
        json.dumps(
            {
                "benchmark": name,
                "settings": settings,
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count(),
                    "threads": os.environ.get("OMP_NUM_THREADS", "all"),
                    "system": platform.platform(),
                },
                "versions": {one: version(one) for one in ("kdzoo", "torch", "timm")},
                "result": result,
                "bounds": {figure: {"least": least, "most": most} for figure, (least, most) in bounds.items()},
            },
            indent=2,
        )
    )
    return all(kept.values())
