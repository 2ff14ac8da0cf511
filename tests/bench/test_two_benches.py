"""Two benches on one store: no cell runs twice, none is lost, and the dead one's work is taken up."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from real_bench import events
from small_lab import Quiet, make_lab, prepare, run
from waiting import PATIENCE, finish, start

from kdzoo.bench.executors.local import run_cells
from kdzoo.cell import Cell
from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive


def test_two_at_once_share_the_cells(shared: tuple[Path, list[tuple[int, str, str]]]) -> None:
    out, ended = shared
    assert [code for code, _, _ in ended] == [0, 0], ended
    for _, board, _ in ended:
        assert all(name in board for name in ("ce", "soft", "fitnets"))
        assert "1/1" in board
        assert "0/1" not in board
    assert ended[0][1] == ended[1][1]
    counts = Counter((each["event"], each["cell"]) for each in events(out))
    assert len(counts) == 8  # start and done of four cells
    assert set(counts.values()) == {1}
    assert {event for event, _ in counts} == {"start", "done"}


def test_who_waits_takes_up_the_cell_of_who_was_killed(tmp_path: Path, teacher_file: str) -> None:
    """The other holder is a process that is killed while this one waits for its cell."""
    bench = prepare(tmp_path, [], teacher_weights=teacher_file, epochs=2)
    (cell,) = bench.plan.cells
    code = (
        "import time; from pathlib import Path; from kdzoo.store import Store\n"
        f"with Store(Path({str(tmp_path)!r})).claim({cell.id!r}) as mine:\n"
        "    print(mine, flush=True); time.sleep(3600)"
    )
    holder = start(sys.executable, "-c", code)
    assert holder.stdout.readline() == "True\n"

    class Killer(Quiet):
        def waiting(self, cell: Cell) -> None:
            super().waiting(cell)
            threading.Timer(0.2, holder.kill).start()  # this one is in the middle of its wait by then

    report = Killer()
    (record,) = run_cells(bench.plan.cells, bench.lab, report, "failed")
    finish(holder)
    assert holder.returncode == -signal.SIGKILL
    assert report.waited == [cell.id]
    assert record.status == "done"


def test_a_cell_that_another_runs_is_passed_over_and_found_at_the_end(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 1}
    bench = prepare(tmp_path, ["soft", "at"], **config)
    held = bench.plan.cells[1]
    order: list[str] = []
    released = threading.Event()

    def on_step(cell: Cell, epoch: int, done: int) -> None:
        if cell.strategy.name not in order:
            order.append(cell.strategy.name)
        if cell.strategy.name == "at":
            released.set()

    def other() -> None:
        with bench.lab.store.claim(held.id) as mine:
            assert mine
            entered.set()
            assert released.wait(PATIENCE)

    entered = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(PATIENCE), "the other has not claimed its cell"
    records = run_cells(bench.plan.cells, bench.lab, Quiet(on_step), "failed")
    thread.join()
    assert order == ["ce", "at", "soft"]
    assert [record.cell for record in records] == bench.plan.cells
    assert all(record.status == "done" for record in records)


def test_a_cell_that_another_finished_meanwhile_is_not_run_again_even_with_rerun_always(
    tmp_path: Path, teacher_file: str
) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 1}
    early = prepare(tmp_path, [], **config)  # started first, comes to the cell last
    other = run(tmp_path, [], rerun="always", **config)
    steps: list[int] = []
    report = Quiet(on_step=lambda cell, epoch, done: steps.append(done))
    records = run_cells(early.plan.cells, early.lab, report, "always")
    assert records == other.records
    assert not steps
    later = make_lab(early.plan, tmp_path)
    run_cells(early.plan.cells, later, report, "always")
    assert steps


def test_the_log_of_events_is_whole_lines(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: [store.log("start", cell=f"{n}-{i}", pad="x" * 2000) for i in range(50)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each["cell"] for each in events(tmp_path)}) == 200
