"""Cells on a Ray cluster: one of this machine, and one of several nodes that stand for machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_bench import Result, by_strategy, kdzoo, outcomes, trials

from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive

ray = pytest.importorskip("ray", reason="needs the extra kdzoo[ray]")

STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="module")
def cluster(node_folder: Path) -> Iterator[Path]:
    """Two processors of this machine."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=STORE_BYTES)
    yield node_folder
    ray.shutdown()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, tuned: tuple[Any, ...], cluster: Path) -> tuple[Path, Result]:
    """The runs of the bench with studies, on a cluster that shares the folder."""
    out = tmp_path_factory.mktemp("shared") / "runs"
    return out, kdzoo(*tuned, "--out", out, "--executor", "ray")


def test_the_cluster_gives_the_records_and_weights_of_one_process(
    alone: tuple[Path, Result], shared: tuple[Path, Result]
) -> None:
    assert shared[1].code == 0, shared[1].err
    assert outcomes(shared[0]) == outcomes(alone[0])


def test_the_studies_are_asked_and_told_by_the_driver(alone: tuple[Path, Result], shared: tuple[Path, Result]) -> None:
    one, other = (Store.open(out).readable_studies()[0] for out, _ in (alone, shared))
    assert [trials(study) for study in other] == [trials(study) for study in one]


def test_the_teacher_trials_and_some_students_are_told_when_they_end(shared: tuple[Path, Result]) -> None:
    told = [line for line in shared[1].err.splitlines() if line.startswith("[")]
    ended = [record.cell.kind for record in Store.open(shared[0]).records()]
    assert sum(" on tune," in line for line in told) == ended.count("trial")
    assert 0 < sum(" seed " in line for line in told) <= ended.count("student")
    assert "teacher test_resnet" in told[0]


def test_a_worker_that_is_killed_in_mid_cell_costs_an_epoch(
    small: tuple[Any, ...], cluster: Path, tmp_path: Path
) -> None:
    arguments = (*small, "--seeds", 1, "--strategies", "doomed")
    assert kdzoo(*arguments, "--out", "whole").code == 0
    (cluster / "deaths").write_text("process")
    result = kdzoo(*arguments, "--out", "runs", "--executor", "ray")
    assert result.code == 0, result.err
    assert "its Ray worker died" in result.err
    assert (cluster / "deaths").read_text() == ""
    assert outcomes(Path("runs")) == outcomes(Path("whole"))


def test_a_cell_that_kills_its_workers_fails_with_the_reason(small: tuple[Any, ...], cluster: Path) -> None:
    (cluster / "deaths").write_text("process\nprocess\nprocess")
    result = kdzoo(*small, "--seeds", 1, "--strategies", "doomed", "--out", "runs", "--executor", "ray")
    assert result.code == 1
    assert (cluster / "deaths").read_text() == "process"
    (cluster / "deaths").unlink()
    records = by_strategy(Path("runs"))
    assert records["doomed"].reason.startswith("tried 2 times: its Ray worker died: ")
    assert records["ce"].status == "done"


def test_without_a_shared_folder_the_results_are_sent_back(
    alone: tuple[Path, Result], tuned: tuple[Any, ...], cluster: Path
) -> None:
    result = kdzoo(*tuned, "--out", "runs", "--executor", "ray", "--no-shared-store")
    assert result.code == 0, result.err
    assert outcomes(Path("runs")) == outcomes(alone[0])
    students = [path for path in Path("runs").glob("cells/*/*") if path.suffix == ".safetensors"]
    assert len(students) >= 7
    scratch = list(cluster.glob(f"kdzoo-{os.getuid()}/*/store.json"))
    assert len(scratch) == 1
    left = {path.name for path in scratch[0].parent.glob("cells/*/*")}
    assert left == {"cell.json", "record.json", "student.safetensors"}  # of the teacher
    again = kdzoo(*tuned, "--out", "runs", "--executor", "ray", "--no-shared-store")
    assert again.code == 0
    assert "were already done" in again.err


def test_a_teachers_file_is_sent_along(alone: tuple[Path, Result], small: tuple[Any, ...], cluster: Path) -> None:
    (teacher,) = [record for record in Store.open(alone[0]).records() if record.cell.kind == "teacher"]
    weights = alone[0] / "cells" / teacher.id / "student.safetensors"
    arguments = (*small, "--seeds", 1, "--strategies", "nudge", "--teacher-weights", weights)
    assert kdzoo(*arguments, "--out", "one").code == 0
    result = kdzoo(*arguments, "--out", "runs", "--executor", "ray", "--no-shared-store")
    assert result.code == 0, result.err
    assert outcomes(Path("runs")) == outcomes(Path("one"))
    assert list(cluster.glob(f"kdzoo-{os.getuid()}/*/files/*.safetensors"))


def test_an_error_that_stops_a_bench_stops_it_here_too(small: tuple[Any, ...], cluster: Path) -> None:
    result = kdzoo(*small, "--seeds", 1, "--strategies", "brimful", "--out", "runs", "--executor", "ray")
    assert result.code == 2
    assert "is full; free some space and run the command again" in result.err.splitlines()[-1]
