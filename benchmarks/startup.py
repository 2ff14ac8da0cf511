"""Wall time of ``kdzoo --help`` and ``kdzoo --version``, and whether they import torch.

python benchmarks/startup.py --runs 15
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

from common import tell

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
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15, help="processes of each command")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for name in ("help", "version"):
        times = wall_times(f"--{name}", args.runs)
        result[f"{name}_seconds"] = round(statistics.median(times), 3)
        result[f"{name}_range"] = [round(times[0], 3), round(times[-1], 3)]
        result[f"{name}_imports_torch"] = imports_torch(f"--{name}")
    bounds: dict[str, tuple[float, float | None]] = {"help_seconds": (0.0, 0.4), "version_seconds": (0.0, 0.4)}
    torch_free = dict.fromkeys(("help_imports_torch", "version_imports_torch"), (0.0, 0.0))
    sys.exit(not tell("startup", vars(args), result, bounds | torch_free))


if __name__ == "__main__":
    main()
