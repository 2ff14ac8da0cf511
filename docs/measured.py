"""The README's table of speed and memory, made from ``benchmarks/results/``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reference import ROOT, table

RESULTS = ROOT / "benchmarks" / "results"


def _times(value: float) -> str:
    return f"{value:.2f}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"


def _gib(value: float) -> str:
    return f"{value:.1f} GiB"


class Figure(NamedTuple):
    """A row: its file, the name of the value in it, and its label; ``{name}`` stands for a setting of the script.

    ``each`` gives what the figure is the median of, from the script's whole output.
    """

    file: str
    name: str
    label: str
    text: Callable[[float], str]
    each: Callable[[dict[str, Any]], Sequence[float]] | None = None


def _of_seconds(slow: str, fast: str) -> Callable[[dict[str, Any]], list[float]]:
    """The ratio of the seconds of the two, round by round."""

    def each(output: dict[str, Any]) -> list[float]:
        seconds = output["result"]["seconds"]
        return [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]

    return each


def _rounds(output: dict[str, Any]) -> list[float]:
    """Of the usual loop, one cell is measured and counts for all."""
    seconds = zip(output["result"]["plain_seconds_of_one"], output["result"]["kdzoo_seconds_of_all"], strict=True)
    return [output["settings"]["cells"] * plain / ours for plain, ours in seconds]


def _listed(*names: str) -> Callable[[dict[str, Any]], list[float]]:
    """What the script lists under these names."""

    def each(output: dict[str, Any]) -> list[float]:
        found: Any = output["result"]
        for name in names:
            found = found[name]
        return list(found)

    return each


PAIR = "{teacher} -> {student}"
FIGURES = (
    Figure(
        "distilling", "matrix_over_ce",
        f"wall time of soft, fitnets, at and rkd on 3 seeds, bank included, relative to as many `ce` cells; {PAIR}",
        _times,
        _of_seconds("matrix", "ce"),
    ),
    Figure(
        "distilling", "soft_over_ce", "an epoch of soft with cached signals, relative to `ce`", _times,
        _listed("epochs_over_ce", "soft"),
    ),
    Figure("distilling", "harness_share_of_30s_cells", "overhead beside training, measuring and bank", _percent),
    Figure("overhead_test_resnet", "ratio", "throughput of `ce` relative to a bare loop over tensors, {model}", _times),
    Figure("overhead_mobilenet", "ratio", "the same, {model}", _times),
    Figure("overhead_resnet10t", "ratio", "the same, {model}", _times),
    Figure(
        "plain_resnet50", "speedup", f"speed-up of {{cells}} cells of soft over the usual loop; {PAIR}", _times,
        _rounds,
    ),
    Figure(
        "plain_resnet18", "speedup", f"the same, with a teacher that costs less than the student; {PAIR}", _times,
        _rounds,
    ),
    Figure(
        "workers_mobilenet", "speedup", "speed-up of two workers over one process, {student}", _times,
        _of_seconds("1", "2"),
    ),
    Figure(
        "workers_test_resnet", "speedup", "the same, {student} ([why](docs/scaling.md#workers-on-one-machine))",
        _times, _of_seconds("1", "2"),
    ),
    Figure(
        "lockstep", "speedup", f"speed-up of four cells in lockstep over one after the other, no bank; {PAIR}", _times,
        _of_seconds("1", "4"),
    ),
    Figure(
        "board", "later_table_seconds", "`kdzoo board` with {records} records", _seconds,
        _listed("later_table_seconds_of_each"),
    ),
    Figure(
        "board", "first_table_seconds",
        "the same without a cache, as in a copied run directory", _seconds,
        _listed("first_table_seconds_of_each"),
    ),
    Figure("board", "peak_gib", "its memory", _gib),
    Figure("memory", "peak_gib", "memory of `kdzoo bench`", _gib),
    Figure("startup", "help_seconds", "`kdzoo --help`", _seconds),
)  # fmt: skip


def measured(folder: Path = RESULTS) -> str:
    """The table, and the machine on which all of it was measured.

    Args:
        folder: of the scripts' output.

    Raises:
        RuntimeError: the files are of several machines or versions.
    """
    found = {figure.file: json.loads((folder / f"{figure.file}.json").read_bytes()) for figure in FIGURES}
    rows = [_row(figure, found[figure.file]) for figure in FIGURES]
    places = {where(one) for one in found.values()}
    if len(places) > 1:
        raise RuntimeError(f"benchmarks/results/ holds figures of several machines: {sorted(places)}")
    steps = found["distilling"]["result"]["cell_over_ce"]
    costs = ", ".join(f"{name} {_times(value)}" for name, value in sorted(steps.items()) if name != "ce")
    return (
        table(rows, ["what", "measured", "bound"])
        + "\nMedians; in brackets the lowest and the highest. An epoch of each strategy with cached signals, relative"
        + f" to `ce`: {costs}. {places.pop()}.\n"
    )


def _row(figure: Figure, output: dict[str, Any]) -> list[str]:
    settings = {name: f"{value:,}" if isinstance(value, int) else value for name, value in output["settings"].items()}
    value = output["result"][figure.name]
    bounds = output["bounds"].get(figure.name, {})
    bound, broken = "", False
    if bounds.get("most") is not None:
        bound, broken = f"at most {figure.text(bounds['most'])}", value > bounds["most"]
    elif bounds.get("least"):
        bound, broken = f"at least {figure.text(bounds['least'])}", value < bounds["least"]
    each = figure.each(output) if figure.each else ()
    spread = f" ({figure.text(min(each))} to {figure.text(max(each))})" if each else ""
    return [figure.label.format(**settings), figure.text(value) + spread, bound + (" (broken)" if broken else "")]


def where(output: dict[str, Any]) -> str:
    """The machine of a script's output, and the versions."""
    machine, versions = output["machine"], output["versions"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("kdzoo", "torch", "timm"))
    return f"On {machine['cores']} {machine['processor']} cores; {names}"
