"""A cell that fails is a record with its reason; the bench goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from small_lab import STEPS, Quiet, prepare, run
from torch import Tensor

from kdzoo import Batch, Outputs, Strategy, Terms, UsageError
from kdzoo.bench import run as cells
from kdzoo.bench.executors.local import run_cells
from kdzoo.engine import checkpoint
from kdzoo.errors import NonFiniteLossError
from kdzoo.store import Store


def _failing(label: str, fail: Callable[[Outputs, Batch], Tensor]) -> type[Strategy]:
    """A strategy whose term is made by ``fail`` from the third step of an epoch on."""

    class Failing(Strategy):
        name = label
        teacher_signals = ()

        def build(self, setup: Any) -> None:
            self.steps = 0

        def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
            self.steps += 1
            return {"odd": fail(student, batch) if self.steps > 2 else student.logits.mean()}

    return Failing


def _raising(error: Exception) -> Callable[[Outputs, Batch], Tensor]:
    def fail(student: Outputs, batch: Batch) -> Tensor:
        raise error

    return fail


FAILURES = {
    "nan": (
        lambda student, batch: student.logits.mean() * float("nan"),
        "the term 'odd' was NaN or infinite from step 3 of 4 on in epoch 0 (phase main); lower",
    ),
    "inf": (
        lambda student, batch: student.logits.sum() * float("inf"),
        "the term 'odd' was NaN or infinite from step 3 of 4 on",
    ),
    "host-memory": (_raising(MemoryError()), "out of memory"),
    "device-memory": (
        _raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words.")),
        "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB.",
    ),
    "allocator": (lambda student, batch: torch.empty(10**16).mean(), "out of memory: "),
    "bug": (lambda student, batch: {}["missing"], "KeyError: 'missing'"),
    "silent": (_raising(RuntimeError()), "RuntimeError"),
    "vector": (lambda student, batch: student.logits.mean(1), "the term 'odd' of vector has the shape (16,)"),
    "own-sentence": (_raising(NonFiniteLossError("it broke here")), "it broke here"),
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Any:
    classes = [_failing(name, fail) for name, (fail, _) in FAILURES.items()]
    return run(tmp_path_factory.mktemp("failed"), [*classes, "soft"], teacher_weights=teacher_file, epochs=1)


@pytest.mark.parametrize("name", FAILURES)
def test_the_reason_and_the_traceback_are_recorded(failed: Any, name: str) -> None:
    record = failed.only(name)
    assert record.status == "failed"
    assert record.reason.startswith(FAILURES[name][1]) or FAILURES[name][1] in record.reason
    assert "\n" not in record.reason
    assert record.traceback.startswith("Traceback (most recent call last)")
    assert record.test is None
    assert Store.open(failed.lab.store.path).record(record.id) == record


def test_a_plugins_traceback_names_its_line(failed: Any) -> None:
    assert "test_failing_cells.py" in failed.only("bug").traceback


def test_the_other_cells_are_done(failed: Any) -> None:
    assert failed.only("ce").status == failed.only("soft").status == "done"


def test_a_failed_cell_leaves_no_checkpoint(failed: Any) -> None:
    for name in FAILURES:
        left = sorted(path.name for path in failed.folder(failed.only(name)).iterdir())
        assert left == ["cell.json", "record.json"]


def test_failed_cells_run_again_unless_told_otherwise(tmp_path: Path, teacher_file: str) -> None:
    broken = True

    def fail(student: Outputs, batch: Batch) -> Tensor:
        if broken:
            raise ValueError("not yet")
        return student.logits.mean()

    kind = _failing("late", fail)
    config = {"teacher_weights": teacher_file, "epochs": 1}
    assert run(tmp_path, [kind], **config).only("late").status == "failed"
    broken = False
    assert run(tmp_path, [kind], rerun="never", **config).only("late").status == "failed"
    ran = []
    report = Quiet(on_step=lambda cell, epoch, done: ran.append(cell.strategy.name))
    assert run(tmp_path, [kind], report, **config).only("late").status == "done"
    assert ran == ["late"] * STEPS


class NamedCe(Strategy):
    name = "named-ce"
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"ce": student.logits.mean()}


class Termless(Strategy):
    name = "termless"
    ce_weight = 0.0

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {}


class Number(Strategy):
    name = "number"
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"constant": 0.5}  # type: ignore[dict-item]


class Unfinished(Strategy):
    name = "unfinished"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (NamedCe, "the strategy named-ce gives a term named 'ce'"),
        (Termless, "the strategy termless gives no term in its phase 'main'"),
        (Number, "the term 'constant' of number is a float: give a tensor"),
        (Unfinished, "strategy 'unfinished' does not define forward"),
    ],
)
def test_a_broken_contract_is_told_in_a_sentence(
    kind: type[Strategy], reason: str, tmp_path: Path, teacher_file: str
) -> None:
    record = run(tmp_path, [kind], teacher_weights=teacher_file, epochs=1, without_baseline=True).only(kind.name)
    assert record.status == "failed"
    assert reason in record.reason


def test_a_teacher_near_chance_teaches_nobody(tmp_path: Path) -> None:
    bench = run(tmp_path, ["soft"], recipe={"lr": 1e-9}, epochs=1)
    teacher, *students = bench.records
    assert teacher.status == "done"
    assert [record.status for record in students] == ["failed", "failed"]
    for record in students:
        assert "test_efficientnet scores" in record.reason
        assert record.reason.endswith(
            "no better than chance (25.0%, its own guesses in random order); train it longer (--teacher-epochs), give "
            "other weights (--teacher-weights), or use it anyway (--trust-teacher)"
        )


def test_a_failed_training_of_the_teacher_is_the_students_reason(tmp_path: Path) -> None:
    bench = run(tmp_path, ["soft"], recipe={"lr": 1e30}, epochs=1)
    teacher, *students = bench.records
    assert teacher.status == "failed"
    for record in students:
        assert record.reason.startswith("the training of its teacher test_efficientnet failed: ")
        assert teacher.reason in record.reason


def _full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _full_in_words(*_: Any) -> Any:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def _write(store: Store, record: Any) -> None:
    with store.writing():
        _full()


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ((checkpoint.Checkpoints, "save"), _full),
        ((cells, "save_weights"), _full_in_words),
        ((Store, "write_record"), _write),
    ],
    ids=["checkpoint", "weights", "record"],
)
def test_a_full_disk_stops_the_bench_and_harms_no_record(
    place: Any, error: Callable[..., Any], tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 1}
    done = run(tmp_path, [], **config).only("ce")
    before = (tmp_path / "cells" / done.id / "record.json").read_bytes()
    prepared = prepare(tmp_path, ["soft"], **config)
    with monkeypatch.context() as patch:
        patch.setattr(*place, error)
        with pytest.raises(UsageError, match="full"):
            run_cells(prepared.plan.cells, prepared.lab, Quiet(), "failed")
    assert (tmp_path / "cells" / done.id / "record.json").read_bytes() == before
    assert [record.id for record in Store.open(tmp_path).records()] == [done.id]
    assert run(tmp_path, ["soft"], **config).only("soft").status == "done"
