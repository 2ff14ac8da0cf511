"""How workers end: killed, stopped with the bench, left behind by it, or with an error that stops it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_bench import by_strategy, kdzoo, outcomes, start
from waiting import finish, wait_for_end, wait_until

from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def doomed(small: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*small, "--seeds", 1, "--strategies", "doomed,nudge")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, doomed: tuple[Any, ...]) -> Path:
    """The runs of that bench where nobody dies."""
    out = tmp_path_factory.mktemp("undisturbed") / "runs"
    assert kdzoo(*doomed, "--out", out).code == 0
    return out


def test_a_killed_worker_costs_an_epoch_and_its_cell_goes_on(
    doomed: tuple[Any, ...], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = tmp_path / "deaths"
    deaths.write_text("once")
    monkeypatch.setenv("TOY_DEATHS", str(deaths))
    result = kdzoo(*doomed, "--out", "runs", "--workers", 2)
    assert result.code == 0, result.err
    assert deaths.read_text() == ""
    assert "its worker process was killed by SIGKILL, probably because memory ran out; retrying" in result.err
    assert outcomes(Path("runs")) == outcomes(undisturbed)


def test_cells_that_end_every_worker_fail_with_the_reason_and_the_others_run(
    doomed: tuple[Any, ...], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = tmp_path / "deaths"
    deaths.write_text("1\n2\n3\n4")
    monkeypatch.setenv("TOY_DEATHS", str(deaths))
    result = kdzoo(*doomed, "--strategies", "doomed,leaver,quitter,nudge", "--out", "runs", "--workers", 2)
    assert result.code == 1
    assert deaths.read_text() == "3\n4"
    records = by_strategy(Path("runs"))
    assert {name: record.status for name, record in records.items()} == {
        "ce": "done", "nudge": "done", "doomed": "failed", "leaver": "failed", "quitter": "failed",
    }  # fmt: skip
    again = "; --rerun failed retries it"
    killed = "its worker process was killed by SIGKILL, probably because memory ran out"
    assert records["doomed"].reason == f"tried 2 times: {killed}{again}"
    assert records["leaver"].reason == f"tried 2 times: its worker process ended with exit code 3{again}"
    assert records["quitter"].reason.startswith("SystemExit: 3 (")
    assert records["nudge"].outcome() == by_strategy(undisturbed)["nudge"].outcome()
    assert not list(Path("runs").glob("cells/*/checkpoint-*"))


def test_a_full_disk_stops_the_bench_with_the_sentence_of_one_process(small: tuple[Any, ...]) -> None:
    arguments = (*small, "--seeds", 1, "--strategies", "brimful")
    one = kdzoo(*arguments, "--out", "runs")
    two = kdzoo(*arguments, "--out", "runs", "--workers", 2)
    assert (one.code, two.code) == (2, 2)
    assert two.err.splitlines()[-1] == one.err.splitlines()[-1].replace("runs", str(Path("runs").absolute()))
    assert "is full; free some space and run the command again" in two.err
    assert "brimful" not in by_strategy(Path("runs"))


def start_long(
    small: tuple[Any, ...], out: Path, launcher: Sequence[str] = ()
) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A bench whose two students stay in their second epoch, and the processes under it."""
    long = (*small, "--seeds", 1, "--strategies", "nudge,doomed")
    process = start(*long, "--out", out, "--workers", 2, launcher=launcher, TOY_STAY="1")

    def both_stay() -> bool:
        begun = {path.parent for path in out.glob("cells/*/checkpoint-*")}
        return len(begun) == 2 and len(Store.open(out).records()) == 2  # those of the teacher and of ce are there

    wait_until(both_stay, "an epoch of both students", process)
    return process, psutil.Process(process.pid).children(recursive=True)


def test_ctrl_c_stops_all_processes(small: tuple[Any, ...], tmp_path: Path) -> None:
    """As a terminal sends it: to the whole group."""
    process, children = start_long(small, tmp_path / "runs")
    assert len(children) >= 2
    os.killpg(process.pid, signal.SIGINT)
    out, err = finish(process)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "Stopped. Finished epochs are kept: run the same command again to resume."
    assert "Traceback" not in err
    wait_for_end(children)
    assert {record.cell.kind for record in Store.open(tmp_path / "runs").records()} <= {"teacher", "student"}
    assert not [record for record in Store.open(tmp_path / "runs").records() if record.status == "failed"]


def test_workers_end_by_themselves_when_the_bench_is_killed(small: tuple[Any, ...], tmp_path: Path) -> None:
    process, children = start_long(small, tmp_path / "runs")
    process.kill()
    finish(process)
    wait_for_end(children)
    assert not [record for record in Store.open(tmp_path / "runs").records() if record.status == "failed"]


def test_in_the_background_ctrl_c_is_not_heard_and_sigterm_stops_all(small: tuple[Any, ...], tmp_path: Path) -> None:
    """As after `nohup kdzoo bench ... &`, where the shell lets SIGINT be ignored."""
    process, children = start_long(small, tmp_path / "runs", ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh"])
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    assert all(child.is_running() for child in children)
    process.terminate()
    out, err = finish(process)
    assert (process.returncode, out) == (-signal.SIGTERM, "")
    assert "Traceback" not in err
    wait_for_end(children)
    store = Store.open(tmp_path / "runs")
    assert {record.status for record in store.records()} == {"done"}
    assert len(list(store.path.glob("cells/*/checkpoint-000001"))) == 2
