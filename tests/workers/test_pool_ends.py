"""How workers end: killed, stopped with the bench, left behind by it, or with an error that stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_bench import by_strategy, kdzoo, outcomes, start

from kdzoo.store import Store


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
    assert "its worker process was killed by SIGKILL, as it is when memory runs out; trying it again" in result.err
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
    again = "; --rerun failed tries it again"
    killed = "its worker process was killed by SIGKILL, as it is when memory runs out"
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


def wait_for(process: subprocess.Popen[str], happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not happens():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def training(out: Path) -> bool:
    """Whether both workers are in the middle of a student."""
    return len(list(out.glob("cells/*/checkpoint-*"))) >= 2 and len(Store.open(out).records()) == 1


def start_slow(small: tuple[Any, ...], out: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A bench whose two students are being trained, and the processes under it."""
    slow = (*small, "--seeds", 1, "--strategies", "nudge,doomed", "--epochs", 60, "--teacher-epochs", 3)
    process = start(*slow, "--out", out, "--workers", 2, TOY_SLEEP="0.05")
    wait_for(process, lambda: out.exists() and training(out))
    return process, psutil.Process(process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


def test_ctrl_c_stops_all_processes(small: tuple[Any, ...], tmp_path: Path) -> None:
    """As a terminal sends it: to the whole group."""
    process, children = start_slow(small, tmp_path / "runs")
    assert len(children) >= 2
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "Stopped. Finished epochs are kept: run the same command again to go on."
    assert "Traceback" not in err
    assert gone(children)
    assert {record.cell.kind for record in Store.open(tmp_path / "runs").records()} <= {"teacher", "student"}
    assert not [record for record in Store.open(tmp_path / "runs").records() if record.status == "failed"]


def test_workers_end_by_themselves_when_the_bench_is_killed(small: tuple[Any, ...], tmp_path: Path) -> None:
    process, children = start_slow(small, tmp_path / "runs")
    process.kill()
    process.communicate()
    assert gone(children)
    assert not [record for record in Store.open(tmp_path / "runs").records() if record.status == "failed"]
