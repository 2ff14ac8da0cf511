"""A training that is stopped and taken up again ends exactly as one that was not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hard_strategies import Contrast
from small_lab import BATCH, Quiet, prepare, run, states, stop_at, whole_and_cut

from kdzoo.bench.executors.local import run_cells
from kdzoo.cell import Cell
from kdzoo.record_parts import Epoch
from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive

MODERN = {
    "optimizer": "adamw",
    "lr": 0.002,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "mixup": 0.3,
    "cutmix": 0.5,
    "ema": 0.99,
    "clip_grad": 1.0,
    "augment.flip": True,
    "augment.erase": 0.2,
    "augment.rotate": 10.0,
}
STEPPED = f"""
epochs: 3
batch_size: {BATCH}
optimizer: momentum
schedule: step
milestones: [0.34, 0.75]
decay: 0.1
warmup: 0.2
"""


@pytest.mark.parametrize(
    ("strategy", "config"),
    [
        ("fitnets", {"recipe": MODERN}),
        ("fitnets", {"set": {"fitnets.hint_epochs": 1}, "recipe": {"ema": 0.9}}),
        ("soft", {"precision": "bf16", "student": "test_vit:img_size=16:patch_size=8"}),
        (Contrast, {"recipe": MODERN}),
        ("at", {"recipe_text": STEPPED}),
    ],
    ids=["joint, modern recipe", "hint phase, average", "bf16", "memory, modern recipe", "steps"],
)
def test_stopped_in_every_epoch(strategy: Any, config: dict[str, Any], tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 3, "without_baseline": True} | config
    if text := config.pop("recipe_text", None):
        (tmp_path / "own.yaml").write_text(text)
        config |= {"recipe": {}, "recipe_file": str(tmp_path / "own.yaml")}
    name = strategy if isinstance(strategy, str) else strategy.name
    whole, cut = whole_and_cut(tmp_path, [strategy], [(0, 2), (1, 0), (2, 3), (2, 0)], **config)
    one, other = whole.only(name), cut.only(name)
    assert one.status == "done", one.traceback
    assert one.outcome() == other.outcome()
    weights = [each.folder(record) / "student.safetensors" for each, record in ((whole, one), (cut, other))]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_only_the_epoch_in_progress_is_lost(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 3}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [], stop_at(2, 1), **config)
    steps = []
    run(tmp_path, [], Quiet(on_step=lambda cell, epoch, done: steps.append((epoch, done))), **config)
    assert steps == [(2, 1), (2, 2), (2, 3), (2, 4)]


def test_seconds_of_all_sittings_are_summed(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 3}
    prepared = prepare(tmp_path, [], **config)
    stop, seen = stop_at(1, 0), states(prepared.lab.store, "ce")
    report = Quiet(on_epoch=lambda cell, line: (seen[0].on_epoch(cell, line), stop.on_epoch(cell, line)))
    with pytest.raises(KeyboardInterrupt):
        run_cells(prepared.plan.cells, prepared.lab, report, "failed")
    earlier = seen[1][-1]["seconds"]["train"]
    record = run(tmp_path, [], **config).only("ce")
    assert record.cost["train"] > earlier > 0


def test_a_done_cell_leaves_no_checkpoint_and_nothing_half_written(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 1}
    prepared = prepare(tmp_path, [], **config)
    (cell,) = prepared.plan.cells
    prepared.lab.store.plan(cell)
    folder = prepared.lab.store.folder(cell.id)
    for name in (".checkpoint-000001.99.abcdef01", ".student.safetensors.99.abcdef01", ".record.json.99.abcdef01"):
        (folder / name).write_bytes(b"left by a killed process")
    run(tmp_path, [], **config)
    assert sorted(path.name for path in folder.iterdir()) == ["cell.json", "record.json", "student.safetensors"]


def test_a_rerun_that_was_stopped_goes_on_too(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 3, "rerun": "always"}
    first = run(tmp_path, [], **config).only("ce")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [], stop_at(1, 2), **config)
    assert Store.open(tmp_path).record(first.id).outcome() == first.outcome()
    steps = []
    again = run(tmp_path, [], Quiet(on_step=lambda cell, epoch, done: steps.append(epoch)), **config).only("ce")
    assert steps[0] == 1
    assert again.outcome() == first.outcome()
    assert again.ended > first.ended
    steps.clear()
    run(tmp_path, [], Quiet(on_step=lambda cell, epoch, done: steps.append(epoch)), **config)
    assert steps[0] == 0  # nothing is left of a run that ended


def test_what_is_left_of_the_run_that_a_record_tells_of_is_not_taken_up(tmp_path: Path, teacher_file: str) -> None:
    """As after a kill between the record and the tidying behind it."""
    config = {"teacher_weights": teacher_file, "epochs": 2}
    prepared = prepare(tmp_path, [], **config)
    folder = prepared.lab.store.folder(prepared.plan.cells[0].id)
    left: dict[str, bytes] = {}

    def keep(cell: Cell, line: Epoch) -> None:
        left.update({path.name: path.read_bytes() for path in folder.glob("checkpoint-*")})

    run_cells(prepared.plan.cells, prepared.lab, Quiet(on_epoch=keep), "failed")
    assert sorted(left) == ["checkpoint-000001", "checkpoint-000002"]
    for name, content in left.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, ns=(0, (folder / "record.json").stat().st_mtime_ns - 1))
    steps = []
    run(tmp_path, [], Quiet(on_step=lambda cell, epoch, done: steps.append(epoch)), rerun="always", **config)
    assert steps[0] == 0
