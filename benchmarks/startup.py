"""Wall time of ``kdzoo --help`` and ``kdzoo --version``, and whether they import torch, as one JSON document.

python benchmarks/startup.py --runs 15
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

_RUN = "import sys; from kdzoo.cli import main; sys.argv[0] = 'kdzoo'; main()"
_IMPORTS = (
    "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    "from kdzoo.cli import main; sys.argv[0] = 'kdzoo'; main()"
)


def wall_times(argument: str, runs: int) -> list[float]:
    """Seconds of each run in a fresh process, sorted; the first, which fills the disk cache, is not counted."""
    times = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _RUN, argument], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return sorted(times[1:])


def imports_torch(argument: str) -> bool:
    """Whether torch is loaded when the command ends."""
    done = subprocess.run([sys.executable, "-c", _IMPORTS, argument], check=True, capture_output=True, text=True)
    return done.stderr.splitlines()[-1] == "True"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="processes of each command")
    args = parser.parse_args()
    result = {}
    for argument in ("--help", "--version"):
        times = wall_times(argument, args.runs)
        result[argument] = {
            "median_seconds": round(statistics.median(times), 4),
            "fastest_seconds": round(times[0], 4),
            "slowest_seconds": round(times[-1], 4),
            "imports_torch": imports_torch(argument),
        }
    print(
        json.dumps(
            {
                "benchmark": "startup",
                "settings": vars(args),
                "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
                "versions": {"kdzoo": version("kdzoo"), "python": platform.python_version()},
                "result": result,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
