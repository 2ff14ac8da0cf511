"""Largest resident memory of the quick bench in a fresh folder; the bound is 2 GiB.

    python benchmarks/memory.py
    python benchmarks/memory.py -- --epochs 1 --seeds 1

What stands behind ``--`` is given to ``kdzoo bench``.
"""

from __future__ import annotations

import argparse
import sys
from tempfile import TemporaryDirectory

from common import run, tell

BOUND_GIB = 2.0


def main() -> None:
    """Measure; exit code 1 if the bound is broken or the bench fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", help="arguments of kdzoo bench")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        done = run("bench", "--out", folder, *args.arguments)
    result = {"peak_gib": round(done.peak / 2**30, 3), "seconds": round(done.seconds, 1)}
    sys.exit(not tell("memory", vars(args), result, {"peak_gib": (0.0, BOUND_GIB)}))


if __name__ == "__main__":
    main()
