"""How often the interval of the recovered gap holds the true share: of 95% that it says, so many in 100.

``python benchmarks/coverage.py`` prints the figures of docs/statistics.md in a few minutes. Seeds are drawn: the
student alone scores 90 with a standard deviation of 0.4, the difference is 1 with 0.4, the teacher has 95, so that a
fifth of the gap is recovered. Normal draws, and exponential ones, which are as skew as accuracies near a bound can be.

Beside how often an interval holds the share stands how wide it is, in shares: in the median, and the width that one in
forty exceeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kdzoo.board import intervals, stats

TEACHER, ALONE, GAIN, SD = 95.0, 90.0, 1.0, 0.4
SHARE = GAIN / (TEACHER - ALONE)

Array = NDArray[np.float64]
Draw = Callable[[int], Array]
Interval = Callable[[Array, Array], tuple[float, float]]


def with_floor(floor: float) -> Interval:
    """The board's interval with another floor of the resamples' standard errors; all numbers where it has none."""

    def interval(values: Array, baseline: Array) -> tuple[float, float]:
        before, intervals.FLOOR = intervals.FLOOR, floor
        try:
            found = stats.gap_recovered(list(values), list(baseline), TEACHER)
        finally:
            intervals.FLOOR = before
        return (-math.inf, math.inf) if found.low is None or found.high is None else (found.low, found.high)

    return interval


def percentile(values: Array, baseline: Array) -> tuple[float, float]:
    """The percentile bootstrap's, for comparison."""
    picks = np.random.RandomState(0).randint(len(values), size=(2000, len(values)))
    shares = (values - baseline)[picks].mean(axis=1) / (TEACHER - baseline[picks]).mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def told(ends: Sequence[tuple[float, float]]) -> str:
    """``95% (width 0.25, 1 in 40 above 0.90)``."""
    held = sum(low <= SHARE <= high for low, high in ends) / len(ends)
    widths = sorted(high - low for low, high in ends)
    median, tail = widths[len(widths) // 2], widths[math.ceil(0.975 * len(widths)) - 1]
    return f"{100 * held:.1f}% (width {median:.2f}, 1 in 40 above {tail:.2f})"


def main() -> None:
    """Print a line for each number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[3, 4, 5, 6, 8, 10, 20])
    parser.add_argument("--floors", type=float, nargs="*", default=[0.0, intervals.FLOOR], help="compared")
    options = parser.parse_args()
    stats.FEWEST_RESAMPLED = 3
    generator = np.random.default_rng(1)
    shapes: dict[str, Draw] = {
        "normal": generator.standard_normal,
        "exponential": lambda n: generator.exponential(size=n) - 1,
    }
    methods: dict[str, Interval] = {"percentile": percentile}
    methods |= {f"bootstrap-t, floor {floor:g}": with_floor(floor) for floor in options.floors}
    for shape, draw in shapes.items():
        for n in options.seeds:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
            for _ in range(options.draws):
                baseline = ALONE + SD * draw(n)
                values = baseline + GAIN + SD * draw(n)
                for name, method in methods.items():
                    found[name].append(method(values, baseline))
            words = ", ".join(f"{name} {told(ends)}" for name, ends in found.items())
            print(f"{shape}, {n} seeds: {words}", flush=True)


if __name__ == "__main__":
    main()
