"""Largest resident memory of the quick bench in a fresh folder, as one JSON document; the bound is 2 GiB.

    python benchmarks/memory.py
    python benchmarks/memory.py -- --epochs 1 --seeds 1

What stands behind ``--`` is given to ``kdzoo bench``.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from tempfile import TemporaryDirectory

BOUND = 2 * 2**30


def main() -> None:
    """Measure and print; exit code 1 if the bound is broken or the bench fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", help="arguments of kdzoo bench")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from kdzoo.cli import main; main()", "bench", "--out", folder]
        began = time.perf_counter()
        done = subprocess.run([*command, *args.arguments], check=False, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    # Linux gives KiB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    print(
        json.dumps(
            {
                "benchmark": "memory",
                "settings": vars(args),
                "machine": {"processor": platform.processor() or platform.machine(), "system": platform.platform()},
                "versions": {name: version(name) for name in ("kdzoo", "torch", "timm")},
                "result": {
                    "peak_bytes": peak,
                    "peak_gib": round(peak / 2**30, 3),
                    "bound_gib": BOUND / 2**30,
                    "seconds": round(seconds, 1),
                    "exit_code": done.returncode,
                },
            },
            indent=2,
        )
    )
    sys.exit(int(done.returncode != 0 or peak > BOUND))


if __name__ == "__main__":
    main()
