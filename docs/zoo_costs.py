"""What the strategies cost, for docs/performance.md: from ``benchmarks/results/zoo_steps.json`` and ``zoo_losses.json``."""

from __future__ import annotations

import json
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from measured import RESULTS, where
from reference import table

LIMITS = (0.0, 1.05, 1.1, 1.5, float("inf"))
"""Of the rows in which strategies of about the same cost stand together."""


def zoo_steps(folder: Path = RESULTS) -> str:
    """The strategies by what their step takes, relative to that of `ce`."""
    output = _output(folder, "zoo_steps")
    settings, ratios = output["settings"], output["result"]["step_over_ce"]
    others = {name: ratio for name, ratio in ratios.items() if name != "ce"}
    rows = []
    for low, high in pairwise(LIMITS):
        found = [f"`{name}` {ratio:.2f}" for name, ratio in others.items() if low < ratio <= high]
        bound = f"up to {high:g}" if high < float("inf") else f"above {low:g}"
        rows.append([bound, str(len(found)), ", ".join(found)])
    return (
        table(rows, ["a step, relative to `ce`", "strategies", "each"])
        + f"\nThe median is {statistics.median(others.values()):.2f}. {settings['teacher']} -> {settings['student']}, "
        + f"batch {settings['batch']}, 32x32, the teacher's signals cached. {where(output)}.\n"
    )


def zoo_losses(folder: Path = RESULTS) -> str:
    """Each loss beside a straightforward form of its equation."""
    output = _output(folder, "zoo_losses")
    result = output["result"]
    rows = [
        [name, f"{found['milliseconds']:.1f}", f"{found['times_as_fast']:.2f}", f"{found['memory_ratio']:.2f}"]
        for name, found in sorted(result["losses"].items(), key=lambda item: -item[1]["times_as_fast"])
    ]
    return (
        table(rows, ["loss", "ms", "times as fast", "memory, relative"])
        + f"\nThe median is {result['median_times_as_fast']:.2f} times as fast. {where(output)}.\n"
    )


def _output(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_bytes())
    return found
