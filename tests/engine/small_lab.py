"""A bench in miniature: a dataset that tiny networks learn in seconds, plugins made on the spot, runs in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdzoo import ArrayData, Dataset, Splits, Strategy
from kdzoo.bench.executors.local import run_cells
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import BenchPlan, make_plan
from kdzoo.cell import Cell
from kdzoo.config import BenchConfig
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.plugins import Plugin, load_plugins
from kdzoo.record import Record
from kdzoo.record_parts import Epoch
from kdzoo.registry import Registry
from kdzoo.store import Store

DISTRIBUTION, VERSION = "kdzoo-tests", "1.2.3"
STUDENT, TEACHER = "test_resnet", "test_efficientnet"
FIT, TUNE, TEST = 64, 20, 40
BATCH = 16
STEPS = FIT // BATCH


class Quadrants(Dataset):
    """Noise with one bright quadrant, which is the label."""

    name = "quadrants"
    img_size = (16, 16)

    def load(self, data_dir: Path | None, download: bool) -> Splits:
        draw = np.random.default_rng(0)

        def part(count: int) -> ArrayData:
            labels = np.arange(count, dtype=np.int64) % 4
            images = draw.integers(0, 120, (count, 1, 8, 8))
            for image, label in zip(images, labels, strict=True):
                top, left = 4 * (label // 2), 4 * (label % 2)
                image[0, top : top + 4, left : left + 4] += 130
            return ArrayData(images.astype(np.uint8), labels)

        return Splits(part(FIT), part(TEST), ("a", "b", "c", "d"), tune=part(TUNE))


def make_registry(*strategies: type[Strategy]) -> Registry:
    """The installed plugins, and one that brings these strategies and the dataset."""
    own = Plugin("tests", DISTRIBUTION, VERSION, strategies=list(strategies), datasets=[Quadrants()])
    return Registry([*load_plugins(), own])


class Quiet:
    """A report that tells nobody; ``on_step`` and ``on_epoch`` are called as the training goes on."""

    def __init__(
        self,
        on_step: Callable[[Cell, int, int], None] = lambda *_: None,
        on_epoch: Callable[[Cell, Epoch], None] = lambda *_: None,
    ) -> None:
        self.on_step, self.on_epoch = on_step, on_epoch
        self.waited: list[str] = []

    def cell(self, cell: Cell) -> _Watching:
        return _Watching(self, cell)

    def passed(self, cell: Cell) -> None:
        pass

    def waiting(self, cell: Cell) -> None:
        self.waited.append(cell.id)

    def done(self, record: Record) -> None:
        pass


class _Watching:
    def __init__(self, report: Quiet, cell: Cell) -> None:
        self.report, self.running = report, cell

    def step(self, epoch: int, done: int, steps: int) -> None:
        self.report.on_step(self.running, epoch, done)

    def epoch(self, line: Epoch, epochs: int) -> None:
        self.report.on_epoch(self.running, line)


@dataclass
class Run:
    """One bench: its plan, its store and, once it ran, its records."""

    plan: BenchPlan
    lab: Lab
    records: list[Record] = field(default_factory=list)

    def students(self, strategy: str) -> list[Record]:
        return [each for each in self.records if each.cell.kind == "student" and each.cell.strategy.name == strategy]

    def only(self, strategy: str) -> Record:
        (record,) = self.students(strategy)
        return record

    def folder(self, record: Record) -> Path:
        return self.lab.store.folder(record.id)


def prepare(
    out: Path,
    strategies: Sequence[type[Strategy] | str],
    *,
    recipe: dict[str, Any] | None = None,
    recipe_file: str = "quick",
    without_baseline: bool = False,
    **config: Any,
) -> Run:
    """Plan a bench of installed strategies (by name) and of classes; changes of the recipe and of the configuration."""
    classes = [each for each in strategies if not isinstance(each, str)]
    names = [each if isinstance(each, str) else each.name for each in strategies]
    changes = {} if recipe_file != "quick" else {"batch_size": BATCH, "augment.crop": 1} | (recipe or {})
    values = {
        "strategies": ",".join(names) or "ce",
        "dataset": "quadrants",
        "teacher": TEACHER,
        "student": STUDENT,
        "seeds": 1,
        "epochs": 2,
        "device": "cpu",
        "recipe": recipe_file,
        **config,
    }
    values["set"] = {f"recipe.{key}": value for key, value in changes.items()} | dict(config.get("set", {}))
    plan = make_plan(BenchConfig(**values), make_registry(*classes))
    if without_baseline:
        plan.cells = [cell for cell in plan.cells if cell.kind == "teacher" or cell.strategy.name != "ce"]
    return Run(plan, make_lab(plan, out, classes))


def make_lab(plan: BenchPlan, out: Path, classes: Sequence[type[Strategy]] = ()) -> Lab:
    return Lab(
        store=Store.create(out),
        registry=make_registry(*classes),
        device=plan.device,
        data=plan.data,
        files=plan.files,
        command="kdzoo bench",
    )


def run(
    out: Path,
    strategies: Sequence[type[Strategy] | str],
    report: Quiet | None = None,
    rerun: str = "failed",
    **config: Any,
) -> Run:
    """Plan and run a bench."""
    prepared = prepare(out, strategies, **config)
    prepared.records = run_cells(prepared.plan.cells, prepared.lab, report or Quiet(), rerun)
    return prepared


def states(store: Store, strategy: str) -> tuple[Quiet, list[dict[str, Any]]]:
    """A report that collects the checkpoint after each epoch of that strategy."""
    seen: list[dict[str, Any]] = []

    def keep(cell: Cell, line: Epoch) -> None:
        if cell.kind == "student" and cell.strategy.name == strategy:
            state = Checkpoints(store.folder(cell.id)).load(torch.device("cpu"))
            assert state is not None
            seen.append(state)

    return Quiet(on_epoch=keep), seen


def stop_at(epoch: int, step: int) -> Quiet:
    """A report that stops a student's training as Ctrl-C does, after so many steps of an epoch (0: at its end)."""

    def on_step(cell: Cell, at: int, done: int) -> None:
        if cell.kind == "student" and (at, done) == (epoch, step):
            raise KeyboardInterrupt

    def on_epoch(cell: Cell, line: Epoch) -> None:
        if cell.kind == "student" and (line.epoch, 0) == (epoch, step):
            raise KeyboardInterrupt

    return Quiet(on_step, on_epoch)


def whole_and_cut(
    out: Path, strategies: Sequence[type[Strategy] | str], stops: Sequence[tuple[int, int]], **config: Any
) -> tuple[Run, Run]:
    """Run a bench twice: at once, and stopped at these (epoch, step) places and taken up again, all draws forgotten."""
    whole = prepare(out / "whole", strategies, **config)
    whole.records = run_cells(whole.plan.cells, whole.lab, Quiet(), "failed")
    classes = [each for each in strategies if not isinstance(each, str)]
    for number, stop in enumerate(stops):
        torch.manual_seed(1000 + number)
        np.random.seed(1000 + number)
        with pytest.raises(KeyboardInterrupt):
            run_cells(whole.plan.cells, make_lab(whole.plan, out / "cut", classes), stop_at(*stop), "failed")
    cut = Run(whole.plan, make_lab(whole.plan, out / "cut", classes))
    cut.records = run_cells(cut.plan.cells, cut.lab, Quiet(), "failed")
    return whole, cut


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states have the same names and, bit for bit, the same values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
