"""Cells of one bench that train side by side in one process and take turns step by step."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from common import PLUGIN

from kdzoo.bench.banking import expect
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import make_plan
from kdzoo.bench.run import course_of
from kdzoo.config import load_bench, parse_bytes
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.record_parts import Epoch
from kdzoo.registry import Registry
from kdzoo.store import Store


class Epochs:
    """Counts the epochs of a training that it watches."""

    def __init__(self) -> None:
        self.done = 0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """A step is done."""

    def epoch(self, line: Epoch, epochs: int) -> None:
        """An epoch is done."""
        self.done += 1


def in_turn(store: Path, flags: dict[str, Any], seed: int) -> dict[str, list[float]]:
    """For each strategy, epoch by epoch, the seconds of a cell over those of `ce`.

    Args:
        store: where the cells of the seeds before are done, which made the bank.
        flags: of the bench that did them.
        seed: of the cells.
    """
    settings = load_bench("quick", flags | {"seeds": seed + 1})
    registry = Registry.load((PLUGIN,))
    plan = make_plan(settings, registry)
    bank = BankSettings(settings.bank, parse_bytes(settings.bank_budget), settings.bank_dtype, shared=False)
    lab = Lab(
        Store.open(store), registry, plan.device, plan.data, plan.files, bank=bank, trust_teacher=settings.trust_teacher
    )
    expect(lab, plan.cells)
    cells = [cell for cell in plan.cells if cell.kind == "student" and cell.seed == seed]
    watches = {cell.strategy.name: Epochs() for cell in cells}
    courses = {
        cell.strategy.name: course_of(cell, lab, watches[cell.strategy.name], "failed", wait=True) for cell in cells
    }
    seconds: dict[tuple[str, int], float] = defaultdict(float)
    for course in courses.values():
        next(course)  # building the student and opening the teacher is none of it
    while courses:
        for name, course in list(courses.items()):
            began, epoch = time.perf_counter(), watches[name].done
            if next(course, None) is None:
                del courses[name]
            seconds[name, epoch] += time.perf_counter() - began
    # The first epoch warms up, and the last one measures test and writes the record.
    epochs = range(1, plan.cells[-1].recipe.epochs - 1)
    return {name: [round(seconds[name, one] / seconds["ce", one], 3) for one in epochs] for name in watches}
