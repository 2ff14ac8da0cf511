"""How often the interval of the recovered gap holds the true share: of 95% that it says, so many in 100.

``python benchmarks/coverage.py`` prints the figures of docs/statistics.md in two minutes. Seeds are drawn: the student
alone scores 90 with a standard deviation of 0.4, the difference is 1 with 0.4, the teacher has 95, so that a fifth of
the gap is recovered. Normal draws, and exponential ones, which are as skew as accuracies near a bound can be.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from kdzoo.board import stats

TEACHER, ALONE, GAIN, SD = 95.0, 90.0, 1.0, 0.4
SHARE = GAIN / (TEACHER - ALONE)

Draw = Callable[[int], NDArray[np.float64]]
Interval = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[float, float]]


def bootstrap_t(values: NDArray[np.float64], baseline: NDArray[np.float64]) -> tuple[float, float]:
    """The board's interval; all numbers where it has none."""
    found = stats.gap_recovered(list(values), list(baseline), TEACHER)
    return (-math.inf, math.inf) if found.low is None or found.high is None else (found.low, found.high)


def percentile(values: NDArray[np.float64], baseline: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile bootstrap's, for comparison."""
    picks = np.random.RandomState(0).randint(len(values), size=(2000, len(values)))
    shares = (values - baseline)[picks].mean(axis=1) / (TEACHER - baseline[picks]).mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Print a line for each number of seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    stats.FEWEST_RESAMPLED = 3
    generator = np.random.default_rng(1)
    shapes: dict[str, Draw] = {
        "normal": generator.standard_normal,
        "exponential": lambda n: generator.exponential(size=n) - 1,
    }
    methods: dict[str, Interval] = {"percentile": percentile, "bootstrap-t": bootstrap_t}
    for shape, draw in shapes.items():
        for n in (3, 4, 5, 6, 8, 10, 20):
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
            for _ in range(draws):
                baseline = ALONE + SD * draw(n)
                values = baseline + GAIN + SD * draw(n)
                for name, method in methods.items():
                    found[name].append(method(values, baseline))
            told = [
                f"{name} {100 * sum(low <= SHARE <= high for low, high in ends) / draws:.0f}% "
                f"(width {median(high - low for low, high in ends):.2f})"
                for name, ends in found.items()
            ]
            print(f"{shape}, {n} seeds: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
