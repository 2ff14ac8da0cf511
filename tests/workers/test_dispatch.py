"""What is run first, what again and what no more: with a pool that runs jobs here and crashes on command."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_lab import Quiet, Run, prepare, run
from waiting import PATIENCE

from kdzoo.bench.executors.dispatch import Dispatcher
from kdzoo.bench.executors.jobs import (
    Crashed,
    Event,
    EventWatch,
    Job,
    JobEnded,
    JobStarted,
    ReadyTeacher,
    RunCell,
    WorkerLine,
)
from kdzoo.bench.lab import Lab
from kdzoo.cell import Cell
from kdzoo.record import Record


class Here:
    """A pool of one worker, which may be made to crash before it runs a job."""

    def __init__(self, lab: Lab, deaths: Callable[[Job, int], Crashed | None] = lambda *_: None) -> None:
        self.lab, self.deaths = lab, deaths
        self.log: list[str] = []
        self.threaded: list[int] = []
        self.lines: list[str] = []
        self._jobs: deque[tuple[int, Job]] = deque()

    @property
    def free(self) -> bool:
        return not self._jobs

    def threads(self, jobs: int | None = None) -> int:
        return 7 if jobs is None else jobs

    def expect(self, jobs: int) -> None:
        self.log.append(f"expect {jobs}")

    def share(self, expected: Mapping[str, tuple[Cell, int]]) -> None:
        self.log.append("share")

    def start(self, token: int, job: Job) -> None:
        name = "ready" if isinstance(job, ReadyTeacher) else job.cell.kind
        if isinstance(job, RunCell) and job.cell.kind == "student":
            name = job.cell.strategy.name + (" waiting" if job.wait else "")
        self.log.append(name)
        self.threaded.append(job.threads)
        self._jobs.append((token, job))

    def wait(self) -> Sequence[Event]:
        token, job = self._jobs.popleft()
        if death := self.deaths(job, token):
            return [JobStarted(token), death]
        events: list[Event] = [JobStarted(token), *(WorkerLine(token, line) for line in self.lines)]
        return [*events, JobEnded(token, job(self.lab, EventWatch(token, events.append, 0)))]


class Listening(Quiet):
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.deaths: list[str] = []

    def done(self, record: Record) -> None:
        self.records.append(record)

    def lost(self, cell: Cell, reason: str) -> None:
        self.deaths.append(f"{cell.strategy.name}: {reason}")


@pytest.fixture
def bench(tmp_path: Path, teacher: str) -> Run:
    return prepare(tmp_path / "runs", ["soft", "at"], teacher_weights=teacher, epochs=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    trained = run(tmp_path_factory.mktemp("teacher"), [], teacher_epochs=6, epochs=1)
    return str(trained.folder(trained.records[0]) / "student.safetensors")


def test_teachers_come_first_then_their_measures_then_the_students(tmp_path: Path) -> None:
    bench = prepare(tmp_path, ["soft"], teacher_epochs=6, epochs=1)
    pool, report = Here(bench.lab), Listening()
    records = Dispatcher(bench.lab, pool).run(bench.plan.cells, report, "failed")
    assert pool.log == ["expect 2", "teacher", "share", "ready", "ce", "soft"]
    assert pool.threaded == [1, 1, 7, 7]
    assert [record.cell for record in records] == bench.plan.cells
    assert report.records == records
    pool.log.clear()
    assert Dispatcher(bench.lab, pool).run(bench.plan.cells, report, "failed") == records
    assert pool.log == ["expect 0", "share"]


def test_a_teacher_is_made_ready_once(bench: Run) -> None:
    """Not again in each round of tuning."""
    pool = Here(bench.lab)
    dispatcher = Dispatcher(bench.lab, pool)
    for cells in (bench.plan.cells[:1], bench.plan.cells[1:]):
        dispatcher.run(cells, Listening(), "failed")
    assert pool.log.count("ready") == 1


def test_a_death_while_a_teacher_is_made_ready_is_not_the_cells(bench: Run) -> None:
    """The job names one of the students that wait for the teacher; its own tries are not used up."""
    left = {ReadyTeacher: 1, RunCell: 1}

    def deaths(job: Job, token: int) -> Crashed | None:
        kind = type(job)
        left[kind] -= 1
        return Crashed(token, "it burnt") if left[kind] >= 0 else None

    records = Dispatcher(bench.lab, Here(bench.lab, deaths)).run(bench.plan.cells, Listening(), "failed")
    assert [record.status for record in records] == ["done"] * 3


def test_a_death_is_told_and_its_cell_waits_for_its_own_lock(bench: Run) -> None:
    left = Counter({"soft": 1})

    def deaths(job: Job, token: int) -> Crashed | None:
        left[job.cell.strategy.name] -= isinstance(job, RunCell)
        return Crashed(token, "it burnt") if isinstance(job, RunCell) and left[job.cell.strategy.name] == 0 else None

    pool, report = Here(bench.lab, deaths), Listening()
    records = Dispatcher(bench.lab, pool).run(bench.plan.cells, report, "failed")
    assert pool.log[-4:] == ["ce", "soft", "soft waiting", "at"]
    assert report.deaths == ["soft: it burnt"]
    assert {record.status for record in records} == {"done"}


@pytest.mark.parametrize(("machine", "tries"), [(False, 2), (True, 4)])
def test_a_cell_is_given_up_later_where_the_machine_is_to_blame(bench: Run, machine: bool, tries: int) -> None:
    def deaths(job: Job, token: int) -> Crashed | None:
        fatal = isinstance(job, RunCell) and job.cell.strategy.name == "soft"
        return Crashed(token, "it burnt", machine=machine) if fatal else None

    pool, report = Here(bench.lab, deaths), Listening()
    records = Dispatcher(bench.lab, pool).run(bench.plan.cells, report, "failed")
    by_name = {record.cell.strategy.name: record for record in records}
    assert by_name["soft"].status == "failed"
    mend = "" if machine else "; --rerun failed retries it"
    assert by_name["soft"].reason == f"tried {tries} times: it burnt{mend}"
    assert by_name["soft"].deaths == (0 if machine else tries)
    assert bench.lab.store.record(by_name["soft"].id) == by_name["soft"]
    assert by_name["ce"].status == by_name["at"].status == "done"
    assert len(report.deaths) == tries - 1


def test_a_record_that_a_dead_worker_left_behind_stands(bench: Run) -> None:
    def deaths(job: Job, token: int) -> Crashed | None:
        if isinstance(job, RunCell) and job.cell.strategy.name == "soft":
            job(bench.lab, Quiet().cell(job.cell))
            return Crashed(token, "it burnt")
        return None

    records = Dispatcher(bench.lab, Here(bench.lab, deaths)).run(bench.plan.cells, Listening(), "failed")
    assert {record.status for record in records} == {"done"}


def test_a_teacher_whose_measuring_kills_is_tried_again_and_left_to_its_cells(bench: Run) -> None:
    def deaths(job: Job, token: int) -> Crashed | None:
        return Crashed(token, "it burnt") if isinstance(job, ReadyTeacher) else None

    pool = Here(bench.lab, deaths)
    records = Dispatcher(bench.lab, pool).run(bench.plan.cells, Listening(), "failed")
    assert pool.log[1:4] == ["share", "ready", "ready"]
    assert {record.status for record in records} == {"done"}


def test_another_benchs_cell_is_passed_over_and_waited_for_at_the_end(bench: Run) -> None:
    held = next(cell for cell in bench.plan.cells if cell.strategy.name == "soft")
    entered, released = threading.Event(), threading.Event()

    def other() -> None:
        with bench.lab.store.claim(held.id) as mine:
            assert mine
            entered.set()
            assert released.wait(PATIENCE)

    class Patient(Listening):
        def waiting(self, cell: Cell) -> None:
            super().waiting(cell)
            released.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(PATIENCE), "the other has not claimed its cell"
    pool, report = Here(bench.lab), Patient()
    records = Dispatcher(bench.lab, pool).run(bench.plan.cells, report, "failed")
    thread.join()
    assert pool.log[-4:] == ["ce", "soft", "at", "soft waiting"]
    assert report.waited == [held.id]
    assert {record.status for record in records} == {"done"}


def test_word_of_a_beginning_may_be_lost(bench: Run) -> None:
    class Forgetful(Here):
        def wait(self) -> Sequence[Event]:
            return [event for event in super().wait() if not isinstance(event, JobStarted)]

    report = Listening()
    records = Dispatcher(bench.lab, Forgetful(bench.lab)).run(bench.plan.cells, report, "failed")
    assert report.records == records
    assert {record.status for record in records} == {"done"}


def test_what_several_workers_say_is_said_once(bench: Run) -> None:
    said: list[str] = []
    bench.lab.say_with(said.append)
    pool: Any = Here(bench.lab)
    pool.lines = ["bank: disk, saves 0.2 s", "the disk is full"]
    Dispatcher(bench.lab, pool).run(bench.plan.cells[:1], Listening(), "failed")
    pool.lines = ["bank: disk, saves 0.3 s", "the disk is slow"]
    dispatcher = Dispatcher(bench.lab, pool)
    dispatcher.run(bench.plan.cells[1:], Listening(), "failed")
    assert said.count("the disk is full") == 1
    assert said.count("the disk is slow") == 1
    assert said.count("bank: disk, saves 0.3 s") == 1
