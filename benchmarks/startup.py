"""Wall and processor time of commands that need no torch, and whether they import it.

``--help`` and ``--version``; and what finds everything known: a finished bench, its dry run, its board, the table of
strategies.

python benchmarks/startup.py --runs 15
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from common import tell

_RUN = "import sys; from kdzoo.cli import main; sys.argv[0] = 'kdzoo'; main()"
_IMPORTS = (
    "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    "from kdzoo.cli import main; sys.argv[0] = 'kdzoo'; main()"
)
_BENCH = (
    *("bench", "--strategies", "soft,at", "--teacher", "resnet10t", "--student", "test_resnet"),
    *("--epochs", "1", "--teacher-epochs", "2", "--seeds", "3", "--device", "cpu"),
)
_COMMANDS: dict[str, tuple[tuple[str, ...], float]] = {
    "help": (("--help",), 0.4),
    "version": (("--version",), 0.4),
    "finished_bench": (_BENCH, 0.8),
    "dry_run": ((*_BENCH, "--dry-run"), 0.8),
    "board": (("board",), 0.8),
    "strategies": (("strategies",), 0.8),
}
"""Arguments of each command, and the seconds that it may take on a machine that does nothing else."""


def times_of(arguments: tuple[str, ...], runs: int, *, cached: bool = True) -> tuple[list[float], list[float]]:
    """Wall and processor seconds of each run in a fresh process, sorted.

    Args:
        arguments: of kdzoo.
        runs: how many; one before them, which fills the caches, is not counted.
        cached: whether what earlier runs found out is there.
    """
    wall, processor = [], []
    for _ in range(runs + 1):
        cache = {} if cached else {"XDG_CACHE_HOME": tempfile.mkdtemp(dir=os.environ["XDG_CACHE_HOME"])}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-c", _RUN, *arguments]
        subprocess.run(command, check=True, capture_output=True, env=os.environ | cache)
        wall.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return sorted(wall[1:]), sorted(processor[1:])


def imports_torch(arguments: tuple[str, ...]) -> bool:
    """Whether torch is loaded when the command ends."""
    done = subprocess.run([sys.executable, "-c", _IMPORTS, *arguments], check=True, capture_output=True, text=True)
    return done.stderr.splitlines()[-1] == "True"


def main() -> None:
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="processes of each command")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    bounds: dict[str, tuple[float, float | None]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        # An installed kdzoo has bytecode; a checkout gets it in its first run.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        for name, (arguments, most) in _COMMANDS.items():
            wall, processor = times_of(arguments, args.runs)
            result[f"{name}_seconds"] = round(statistics.median(wall), 3)
            result[f"{name}_range"] = [round(wall[0], 3), round(wall[-1], 3)]
            result[f"{name}_processor_least"] = round(processor[0], 3)
            result[f"{name}_imports_torch"] = imports_torch(arguments)
            bounds[f"{name}_seconds"] = (0.0, most)
            bounds[f"{name}_imports_torch"] = (0.0, 0.0)
        for name in ("finished_bench", "strategies"):
            wall, processor = times_of(_COMMANDS[name][0], min(args.runs, 3), cached=False)
            result[f"{name}_unknown_seconds"] = round(statistics.median(wall), 3)
            result[f"{name}_unknown_processor_least"] = round(processor[0], 3)
        os.chdir("/")
    sys.exit(not tell("startup", vars(args), result, bounds))


if __name__ == "__main__":
    main()
