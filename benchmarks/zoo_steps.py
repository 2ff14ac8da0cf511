"""What each strategy of the zoo costs: its step beside that of `ce`, and its loss beside a straightforward form of it.

    OMP_NUM_THREADS=1 python benchmarks/zoo_steps.py

Steps: the cells of all strategies that serve the pair train side by side in one process and take turns step by step,
with the teacher's signals in the bank; what an epoch takes, over the same epoch of `ce`.

Losses: forward and backward of each function of ``kdzoo_zoo.functional`` and of the equation as its paper writes it
(``benchmarks/forms``), in alternating runs, and the largest memory that each allocates meanwhile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import PLUGIN, run, tell
from forms import Form, all_forms
from steps import alternate
from tabulate import tabulate
from torch import Tensor
from turns import in_turn

from kdzoo.bench.plan import make_plan
from kdzoo.config import load_bench
from kdzoo.registry import Registry
from kdzoo.testing.checks.cost import peak_bytes

MOST_EXPENSIVE = 8
"""Strategies whose step may take more than 1.5 times that of `ce`."""


def serving(flags: dict[str, Any]) -> list[str]:
    """Of the strategies asked for, those that serve the pair: a bench of others ends with an error.

    Those that train other networks before the student are left out: their step is that of soft targets.
    """
    plan = make_plan(load_bench("quick", flags), Registry.load((PLUGIN,)))
    students = (cell for cell in plan.cells if cell.kind == "student" and not cell.hops)
    return list(dict.fromkeys(cell.strategy.name for cell in students))


def step_ratios(args: argparse.Namespace) -> dict[str, float]:
    """Median over epochs of what a cell's epoch takes over the same epoch of `ce`, with the bank there."""
    settings = {"recipe.batch_size": args.batch, "recipe.lr": 0.001}
    pair = {"teacher": args.teacher, "student": args.student, "teacher_epochs": 1, "epochs": args.epochs}
    flags: dict[str, Any] = {
        "strategies": args.strategies or "all",
        "dataset": f"patterns{args.samples}",
        "set": settings,
        **pair,
    }
    flags |= {"bank": "disk", "bank_budget": "40GiB", "trust_teacher": True}
    flags["strategies"] = ",".join(serving(flags))
    ratios: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory() as folder:
        store = args.store or Path(folder) / "runs"
        told = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        others = [part for key, value in pair.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        data = ("--dataset", flags["dataset"], "--bank", "disk", "--bank-budget", "40GiB", "--trust-teacher")
        bench = ("bench", "--config", "quick", "--plugin", PLUGIN, "--out", store, "--strategies", flags["strategies"])
        run(*bench, *told, *others, *data, "--seeds", "1")
        for number in range(args.runs):
            for name, values in in_turn(store, flags, 1 + number).items():
                ratios[name] += values
    return {name: round(statistics.median(values), 3) for name, values in ratios.items()}


def backward(loss: Callable[..., Tensor], inputs: dict[str, Any]) -> None:
    """One forward and backward pass."""
    trained = [value for each in inputs.values() for value in _tensors(each) if value.requires_grad]
    torch.autograd.grad(loss(**inputs), trained)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [each for each in value if isinstance(each, Tensor)] if isinstance(value, (list, tuple)) else []


def compare(form: Form, rounds: int) -> dict[str, float]:
    """How many times as fast a loss is as the straightforward form, and its peak of memory over that of the other."""
    torch.manual_seed(0)
    inputs = form.inputs()
    torch.testing.assert_close(form.loss(**inputs), form.straightforward(**inputs), rtol=1e-3, atol=1e-5)
    work = {"ours": partial(backward, form.loss, inputs), "theirs": partial(backward, form.straightforward, inputs)}
    seconds = {name: statistics.median(values) for name, values in alternate(work, rounds).items()}
    peaks = {name: peak_bytes(each) for name, each in work.items()}
    return {
        "milliseconds": round(1e3 * seconds["ours"], 3),
        "times_as_fast": round(seconds["theirs"] / seconds["ours"], 2),
        "memory_ratio": round(peaks["ours"] / peaks["theirs"], 2) if peaks["theirs"] else 1.0,
    }


def main() -> None:
    """Measure; exit code 1 if a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="resnet50")
    parser.add_argument("--student", default="mobilenetv3_small_050")
    parser.add_argument("--samples", type=int, default=640, choices=(640, 1280, 2560, 5120, 10240))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help="alternating runs of each loss")
    parser.add_argument("--strategies", default="", help="comma list; by default all")
    parser.add_argument("--parts", default="steps,losses")
    parser.add_argument("--store", type=Path, help="keep the cells there, and find those of an interrupted run")
    args = parser.parse_args()
    named = args.strategies.split(",") if args.strategies else []
    result: dict[str, Any] = {}
    bounds: dict[str, tuple[float, float | None]] = {}
    if "losses" in args.parts:
        # Some forms are of functions without a strategy, and count where none is named.
        chosen = [form for form in all_forms() if not named or form.strategy in named]
        result["losses"] = {form.name: compare(form, args.rounds) for form in chosen}
        rows = [[name, *found.values()] for name, found in result["losses"].items()]
        print(tabulate(rows, headers=("loss", "ms", "times as fast", "memory")), file=sys.stderr)
        faster = [found["times_as_fast"] for found in result["losses"].values()]
        result["least_times_as_fast"], result["median_times_as_fast"] = min(faster), statistics.median(faster)
        result["most_memory_ratio"] = max(found["memory_ratio"] for found in result["losses"].values())
        bounds |= {"least_times_as_fast": (1.0, None), "median_times_as_fast": (2.0, None)}
        bounds["most_memory_ratio"] = (0.0, 1.0)
    if "steps" in args.parts:
        ratios = step_ratios(args)
        result["step_over_ce"] = dict(sorted(ratios.items(), key=lambda item: item[1]))
        others = [value for name, value in ratios.items() if name != "ce"]
        result["median_step_over_ce"] = round(statistics.median(others), 3)
        result["steps_above_1.5"] = sum(value > 1.5 for value in others)
        bounds |= {"median_step_over_ce": (0.0, 1.1), "steps_above_1.5": (0.0, MOST_EXPENSIVE)}
    sys.exit(not tell("zoo_steps", {**vars(args), "store": None}, result, bounds))


if __name__ == "__main__":
    main()
