"""A cell that ended its process twice is recorded as failed and passed over; what a person ends is taken up again."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from small_lab import Quiet, prepare, run
from torch import Tensor
from waiting import finish, start

from kdzoo import Batch, Outputs, Strategy, Terms
from kdzoo.bench import crashes
from kdzoo.bench.crashes import OWN_LIMIT, UNEXPLAINED_LIMIT, Crashes, StartMark, crashes_of, start_marked
from kdzoo.bench.executors.local import run_cells

pytestmark = pytest.mark.exhaustive

BENCH = """
import sys
sys.path[:0] = {places!r}
from pathlib import Path
from small_lab import Quiet, prepare
from test_crashes import Ending
from kdzoo.bench.executors.local import run_cells

bench = prepare(Path({out!r}), [Ending, "soft"], teacher_weights={weights!r}, epochs=2)
run_cells(bench.plan.cells, bench.lab, Quiet(), "safe", lockstep={lockstep})
"""


class Ending(Strategy):
    """Ends the process at the first step, in the way that a variable says."""

    name = "ending"
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        way = os.environ.get("ENDING", "")
        if way == "exit":
            os._exit(7)
        if way:
            os.kill(os.getpid(), int(way))
        nothing: Tensor = 0 * student.logits.mean()
        return {"nothing": nothing}


def _ends(code: int, out: Path, weights: str, way: str, lockstep: int = 1) -> None:
    """Run the bench in a process of its own, which ends with that exit code."""
    here = Path(__file__).parent
    places = [str(here), str(here.parent), str(here.parent / "engine")]
    program = BENCH.format(places=places, out=str(out), weights=weights, lockstep=lockstep)
    process = start(sys.executable, "-c", program, env=os.environ | {"ENDING": way})
    told = finish(process)
    assert process.returncode == code, told


@pytest.mark.parametrize(
    ("way", "lockstep", "code", "told"),
    [
        ("exit", 1, 7, "os._exit(7)"),
        (str(int(signal.SIGSEGV)), 2, -signal.SIGSEGV, "Segmentation fault (test_crashes.py:"),
    ],
    ids=["exit-alone", "fault-lockstep"],
)
def test_the_third_start_passes_it_over(
    way: str, lockstep: int, code: int, told: str, tmp_path: Path, teacher_file: str
) -> None:
    for _ in range(OWN_LIMIT):
        _ends(code, tmp_path, teacher_file, way, lockstep)
    _ends(0, tmp_path, teacher_file, way, lockstep)
    bench = prepare(tmp_path, [Ending, "soft"], teacher_weights=teacher_file, epochs=2)
    records = {each.cell.strategy.name: each for each in bench.lab.store.records()}
    assert {name: each.status for name, each in records.items()} == {"ce": "done", "soft": "done", "ending": "failed"}
    found = records["ending"]
    assert found.reason.startswith(f"its process died 2 times in epoch 0: {told}")
    assert found.reason.endswith("; --rerun failed retries it")
    assert found.deaths == OWN_LIMIT
    assert sorted(path.name for path in bench.lab.store.folder(found.id).iterdir()) == ["cell.json", "record.json"]
    kept = run(tmp_path, [Ending, "soft"], rerun="safe", teacher_weights=teacher_file, epochs=2)
    assert kept.only("ending") == found
    again = run(tmp_path, [Ending, "soft"], rerun="failed", teacher_weights=teacher_file, epochs=2)
    assert again.only("ending").status == "done"


def test_sigterm_counts_for_nothing(tmp_path: Path, teacher_file: str) -> None:
    way = str(int(signal.SIGTERM))
    for _ in range(OWN_LIMIT + 1):
        _ends(-signal.SIGTERM, tmp_path, teacher_file, way)
        assert not list(tmp_path.glob("cells/*/.attempt"))


def _die(folder: Path, words: str = "", **changes: Any) -> None:
    """Leave what a process leaves that died in a cell's run."""
    mark = StartMark(folder, crashes_of(folder))
    mark._write(crashes._here() | changes)
    if words:
        mark.write_fault(words)


def test_an_unexplained_death_is_borne_more_often(tmp_path: Path) -> None:
    for count in range(1, UNEXPLAINED_LIMIT):
        _die(tmp_path)
        assert crashes_of(tmp_path) == Crashes(0, 0, count)
        assert not crashes_of(tmp_path).fatal
    _die(tmp_path)
    assert crashes_of(tmp_path).fatal == (
        f"its process died {UNEXPLAINED_LIMIT} times in epoch 0: it was killed, probably because memory ran out"
    )


def test_progress_forgives(tmp_path: Path) -> None:
    for number in range(6):
        _die(tmp_path, "os._exit(1)")
        (tmp_path / f"checkpoint-{number + 1:06d}").touch()
        assert crashes_of(tmp_path) == Crashes(number + 1, 1, 0, "os._exit(1)")
    _die(tmp_path, "os._exit(1)")
    assert crashes_of(tmp_path).fatal.startswith("its process died 2 times in epoch 6")


def test_a_restart_of_the_machine_is_no_death(tmp_path: Path) -> None:
    _die(tmp_path, boot="another")
    assert crashes_of(tmp_path) == Crashes()


def test_memory_that_ran_out_meanwhile_explains_it(tmp_path: Path) -> None:
    _die(tmp_path, oom=-1)
    if crashes._here()["oom"] is None:
        pytest.skip("this system does not count processes that it ended for want of memory")
    assert crashes_of(tmp_path).reason.startswith("out of memory")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"place": 0}', "\x00"])
def test_a_damaged_mark_tells_of_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / ".attempt").write_text(content)
    assert crashes_of(tmp_path) == Crashes()


def test_an_end_that_is_no_death_keeps_the_count(tmp_path: Path) -> None:
    _die(tmp_path, "os._exit(1)")
    with start_marked(tmp_path, crashes_of(tmp_path)):
        assert "boot" in json.loads((tmp_path / ".attempt").read_text())
    assert crashes_of(tmp_path) == Crashes(0, 1, 0, "os._exit(1)")


def test_a_mark_costs_no_record(tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, [], teacher_weights=teacher_file, epochs=1)
    seen: list[bool] = []
    report = Quiet(on_step=lambda cell, *_: seen.append((bench.lab.store.folder(cell.id) / ".attempt").exists()))
    (record,) = run_cells(bench.plan.cells, bench.lab, report, "safe")
    assert record.status == "done"
    assert all(seen)
    assert not (bench.folder(record) / ".attempt").exists()
