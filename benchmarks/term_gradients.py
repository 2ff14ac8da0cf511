"""How strongly the terms of each strategy pull at the student beside the labels, in the first steps of a training.

    OMP_NUM_THREADS=1 python benchmarks/term_gradients.py --config zoo --out /tmp/terms

The teacher is trained first, or taken from the runs at ``--out``. Then each strategy makes its first steps with its
default weights, and the gradient of each term at the student's parameters is compared with that of the hard-label loss.
A loss far above 1 leaves nothing to the labels at the learning rate of the recipe; one far below 1 changes nothing.
Terms of phases before the first one with labels are not reached.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from common import run, tell
from tabulate import tabulate
from torch import Tensor
from turns import Epochs

from kdzoo.bench.banking import expect
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import make_plan
from kdzoo.bench.run import course_of
from kdzoo.config import load_bench
from kdzoo.engine.train import Training
from kdzoo.errors import KdzooError
from kdzoo.registry import Registry
from kdzoo.store import Store

LABELS = "ce"
"""The hard-label loss among the terms."""


@contextmanager
def watched() -> Iterator[dict[str, list[float]]]:
    """In the block, the norm of each term's gradient at the student, step by step."""
    norms: dict[str, list[float]] = defaultdict(list)
    original = Training._terms

    def terms_of(training: Training, *arguments: Any) -> dict[str, Tensor]:
        terms = original(training, *arguments)
        trained = [one for one in training.distiller.student.parameters() if one.requires_grad]
        if LABELS in terms and trained:
            for name, term in terms.items():
                norms[name].append(norm_at(trained, term))
        return terms

    with patch.object(Training, "_terms", terms_of):
        yield norms


def norm_at(parameters: list[torch.nn.Parameter], term: Tensor) -> float:
    """The Euclidean norm of a term's gradient."""
    if not term.requires_grad:
        return 0.0
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return float(torch.stack([one.norm() for one in found if one is not None] or [torch.zeros(())]).norm())


def measure(store: Path, config: str, steps: int) -> dict[str, dict[str, dict[str, float]]]:
    """By student and strategy, the median over the first steps of each term's gradient over that of the labels."""
    registry = Registry.load()
    plan = make_plan(load_bench(config, {"strategies": "all", "seeds": 1, "tune": None}), registry)
    lab = Lab(Store.open(store), registry, plan.device, plan.data, plan.files)
    expect(lab, plan.cells)
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for cell in plan.cells:
        if cell.kind != "student" or cell.hops or cell.peer:
            continue
        with watched() as norms, closing(course_of(cell, lab, Epochs(), "failed", wait=True)) as course:
            for number, _ in enumerate(course):
                if number == steps:
                    break
        if norms:
            labels = statistics.median(norms[LABELS])
            ratios = {name: round(statistics.median(each) / labels, 3) for name, each in norms.items()}
            found[str(cell.student)][cell.strategy.name] = ratios
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="zoo", help="the bench whose pairs and recipe are taken")
    parser.add_argument("--out", type=Path, required=True, help="runs that hold the teacher, or will")
    parser.add_argument("--steps", type=int, default=16)
    args = parser.parse_args()
    run("bench", "--config", args.config, "--strategies", "ce", "--seeds", "1", "--out", args.out)
    try:
        result = measure(args.out, args.config, args.steps)
    except KdzooError as error:
        sys.exit(str(error))
    for student, strategies in result.items():
        rows = [
            (name, ", ".join(f"{term} {ratio:g}" for term, ratio in terms.items() if term != LABELS))
            for name, terms in strategies.items()
        ]
        print(tabulate(rows, headers=(student, "gradient over that of the labels")), file=sys.stderr)
    tell("term_gradients", {"config": args.config, "steps": args.steps}, {"ratios": result}, {})


if __name__ == "__main__":
    main()
