"""Tune is measured after every k-th epoch and the last one, and no result depends on k."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_lab import Quiet, make_lab, prepare, run, stop_at

from kdzoo.bench.executors.local import run_cells
from kdzoo.engine.evaluate import measure
from kdzoo.record import Record


def numbered(record: Record) -> list[bool]:
    return [line.score is not None for line in record.curve]


def run_every(out: Path, every: int, teacher_file: str, **config: Any) -> Record:
    bench = prepare(out, [], teacher_weights=teacher_file, epochs=5, **config)
    bench.lab.eval_every = every
    bench.records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed")
    return bench.only("ce")


@pytest.mark.parametrize(
    ("every", "measured"),
    [(1, [1, 1, 1, 1, 1]), (2, [0, 1, 0, 1, 1]), (3, [0, 0, 1, 0, 1]), (5, [0, 0, 0, 0, 1]), (9, [0, 0, 0, 0, 1])],
)
def test_every_kth_epoch_and_the_last(every: int, measured: list[int], tmp_path: Path, teacher_file: str) -> None:
    each, found = (run_every(tmp_path / str(k), k, teacher_file, recipe={"ema": 0.5}) for k in (1, every))
    assert numbered(found) == [bool(one) for one in measured]
    assert found.id == each.id
    for line, other in zip(found.curve, each.curve, strict=True):
        assert line.model_copy(update={"tune": other.tune}) == other
        assert line.score in (None, other.score)
    ends = {"curve": ()}
    assert found.model_copy(update=ends).outcome() == each.model_copy(update=ends).outcome()
    assert found.curve[-1].score == found.tune["top1"]


def test_a_training_that_was_stopped_may_go_on_with_another_k(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 5}
    whole = run(tmp_path / "whole", [], **config).only("ce")
    bench = prepare(tmp_path / "cut", [], **config)
    bench.lab.eval_every = 2
    with pytest.raises(KeyboardInterrupt):
        run_cells(bench.plan.cells, bench.lab, stop_at(3, 2), "failed")
    bench.lab = make_lab(bench.plan, tmp_path / "cut")
    bench.records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed")
    found = bench.only("ce")
    assert numbered(found) == [False, True, False, True, True]
    assert (found.tune, found.test) == (whole.tune, whole.test)


def test_the_last_measure_is_not_taken_twice(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[str] = []

    def counted(trained: Any, strategy: Any, data: Any, split: str, *rest: Any) -> Any:
        splits.append(split)
        return measure(trained, strategy, data, split, *rest)

    monkeypatch.setattr("kdzoo.engine.train.measure", counted)
    monkeypatch.setattr("kdzoo.bench.run.measure", counted)
    record = run(tmp_path, [], teacher_weights=teacher_file, epochs=2).only("ce")
    assert splits == ["tune", "tune", "test"]
    assert record.tune["top1"] == record.curve[-1].score


def test_a_run_that_was_killed_after_its_last_epoch_is_measured_again(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 2}
    whole = run(tmp_path / "whole", [], **config).only("ce")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [], stop_at(1, 0), **config)
    assert run(tmp_path / "cut", [], **config).only("ce").outcome() == whole.outcome()
