"""How many workers ``auto`` takes, by what was measured; and a real measurement."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_lab import prepare
from toy_bench import kdzoo

from kdzoo.bench.executors import selection as choose
from kdzoo.bench.executors.jobs import Crashed, Event, Job, JobEnded, Speed, TimeStudent
from kdzoo.bench.executors.selection import fastest, idle_in_studies, visible_gpus
from kdzoo.cell import Cell
from kdzoo.errors import KdzooError


class Timed:
    """A pool whose workers train at these speeds, all together, by their number."""

    def __init__(self, cores: int, speeds: dict[int, float], memory: int = 1) -> None:
        self.cores, self.speeds, self.memory = cores, speeds, memory
        self.workers = 1
        self.tried: list[int] = []
        self._events: list[Event] = []

    def resize(self, workers: int) -> None:
        self.workers = workers
        self.tried.append(workers)

    def threads(self, jobs: int | None = None) -> int:
        return max(1, self.cores // self.workers)

    def start(self, token: int, job: Job) -> None:
        speed = Speed(self.speeds[self.workers] / self.workers, self.memory)
        self._events.append(JobEnded(token, speed if isinstance(job, TimeStudent) else None))

    def wait(self) -> Sequence[Event]:
        events, self._events = self._events, []
        return events


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return prepare(tmp_path, [], epochs=1).plan.cells[-1]


@pytest.fixture(autouse=True)
def _threads_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.parametrize(
    ("speeds", "tried", "best"),
    [
        ({1: 1589, 2: 2220}, [1, 2], 2),
        ({1: 100, 2: 104}, [1, 2], 1),  # not worth it
        ({1: 100, 2: 150, 4: 210, 8: 190}, [1, 2, 4, 8], 4),
        ({1: 100, 2: 90, 4: 300}, [1, 2], 1),  # slower with two, so no more are tried
    ],
)
def test_the_fewest_workers_that_are_about_the_fastest(
    speeds: dict[int, float], tried: list[int], best: int, cell: Cell
) -> None:
    pool: Any = Timed(max(speeds), speeds)
    lines: list[str] = []
    assert fastest(pool, cell, max(speeds), lines.append) == best
    assert pool.tried == tried
    (line,) = lines
    assert line.startswith(f"workers: {best}, as test_resnet trains at {speeds[1]:,.0f} images/s with 1 x ")


def test_no_more_workers_than_there_is_work_for(cell: Cell) -> None:
    pool: Any = Timed(8, {1: 100, 2: 200, 3: 300})
    lines: list[str] = []
    assert fastest(pool, cell, 3, lines.append) == 3
    assert lines == [
        "workers: 3, as test_resnet trains at 100 images/s with 1 x 8 threads, 200 images/s with 2 x 4 threads, "
        "300 images/s with 3 x 2 threads"
    ]


def test_memory_bounds_the_workers(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "free_memory", lambda: 10 * 2**30)
    pool: Any = Timed(8, {1: 100, 2: 200, 4: 400, 8: 800}, memory=2**30)
    lines: list[str] = []
    assert fastest(pool, cell, 8, lines.append) == 4
    assert lines[0].endswith("; more would not fit in memory")


def test_a_measurement_that_dies_is_told(cell: Cell) -> None:
    pool: Any = Timed(2, {1: 1})
    pool.wait = lambda: [Crashed(0, "its worker process was killed by SIGKILL")]
    with pytest.raises(KdzooError, match=r"could not measure: its worker .* SIGKILL; give a number instead"):
        fastest(pool, cell, 2, print)


def test_each_worker_gets_a_gpu_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(torch.device("cuda")) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-5a")
    assert visible_gpus(torch.device("cuda")) == ["3", "GPU-5a"]
    assert visible_gpus(torch.device("cpu")) == []


@pytest.mark.exhaustive
def test_auto_measures_says_so_and_runs(small: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdzoo.bench.executors.pool.usable_cores", lambda: 2)
    result = kdzoo(*small, "--seeds", 1, "--strategies", "nudge", "--out", "runs", "--workers", "auto")
    assert result.code == 0, result.err
    chosen = re.search(
        r"^workers: [12], as test_vit\S* trains at [\d,]+ images/s with 1 x 2 threads, "
        r"[\d,]+ images/s with 2 x 1 thread$",
        result.err,
        re.MULTILINE,
    )
    assert chosen, result.err
    again = kdzoo(*small, "--seeds", 1, "--strategies", "nudge", "--out", "runs", "--workers", "auto")
    assert "workers: 1, because no cells are left to run at a time" in again.err


@pytest.mark.parametrize(("batch", "workers", "told"), [(1, 2, True), (2, 2, False), (3, 8, True), (8, 3, False)])
def test_workers_that_have_no_trial_are_told(batch: int, workers: int, told: bool, tmp_path: Path) -> None:
    plan = prepare(tmp_path, ["soft"], epochs=1, tune=4, tune_batch=batch).plan
    advice = idle_in_studies(plan, workers)
    assert (
        advice.startswith(f"{min(batch, 4)} of {workers} workers can run a trial at a time; a larger --tune-batch")
        == told
    )
    assert bool(advice) == told
    assert not idle_in_studies(prepare(tmp_path, ["soft"], epochs=1).plan, workers)
