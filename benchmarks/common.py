"""What the scripts share: running a command of kdzoo, and telling a result with the machine it comes from."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
    command = _command(arguments)
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


def in_slices(
    commands: Mapping[str, Sequence[str | Path]], between: Callable[[], None], slice_seconds: float = 1.0
) -> dict[str, float]:
    """Run ``kdzoo`` several times at once, but only one process at a time: each is stopped while another one runs.

    What else happens on the machine, or how fast its processor is just then, hits all of them alike.

    Args:
        commands: name -> arguments.
        between: called each time that all had their slice.
        slice_seconds: how long each runs before it is stopped again.

    Returns:
        Name -> seconds from start to end in which it was not stopped.

    Raises:
        SystemExit: a command failed.
    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    seconds = dict.fromkeys(commands, 0.0)
    turn = list(commands)
    try:
        while turn:
            for name in list(turn):
                began = time.perf_counter()
                if name in running:
                    os.killpg(running[name].pid, signal.SIGCONT)
                else:
                    command = _command(commands[name])
                    running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running[name].wait(slice_seconds)
                if running[name].returncode is None:
                    os.killpg(running[name].pid, signal.SIGSTOP)
                else:
                    turn.remove(name)
                seconds[name] += time.perf_counter() - began
                if running[name].returncode:
                    sys.exit(f"{name} ended with exit code {running[name].returncode}")
            turn.reverse()
            between()
    finally:
        for process in running.values():
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return seconds


def _command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-c", "from kdzoo.cli import main; main()", *map(str, arguments)]


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
