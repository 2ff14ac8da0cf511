"""Killed at any moment, then the same command again: the records of an uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from real_bench import events, start
from small_lab import Quiet, make_lab, prepare, run
from waiting import finish, wait_until

from kdzoo import store
from kdzoo.bench.executors.local import run_cells
from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive

KILLS = 3


def _start_and_kill(out: Path, delay: float) -> bool:
    """Start a bench and kill it so long after it took up a cell; False where it ended before."""
    before = len(events(out))
    process = start(out)
    wait_until(lambda: len(events(out)) > before or process.poll() is not None, "a cell that begins", process)
    time.sleep(delay)
    process.kill()
    finish(process)
    return process.returncode == -signal.SIGKILL


def test_a_real_bench_killed_at_random_moments(tmp_path: Path, shared: tuple[Path, Any]) -> None:
    draw = random.Random(0)
    killed = [_start_and_kill(tmp_path, draw.uniform(0.0, 0.8)) for _ in range(KILLS)]
    last = start(tmp_path)
    told = finish(last)
    assert last.returncode == 0, told
    assert sum(killed) >= 2
    whole, cut = Store.open(shared[0]), Store.open(tmp_path)
    assert len(whole.records()) == 4
    assert [record.outcome() for record in cut.records()] == [record.outcome() for record in whole.records()]
    for record in whole.records():
        weights = [each.folder(record.id) / "student.safetensors" for each in (whole, cut)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
        names = {path.name for path in cut.folder(record.id).iterdir()}
        assert names == {"cell.json", "record.json", "student.safetensors"}


class Killed(KeyboardInterrupt):
    """Nothing between here and the end of the process may catch this."""


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_dying_at_each_write_in_turn(
    call: str, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt dies at its first write, the next at its second, and so on until one comes through."""
    config = {"teacher_weights": teacher_file, "epochs": 2}
    whole = run(tmp_path / "whole", [], **config).only("ce")
    plan = prepare(tmp_path / "cut", [], **config).plan
    monkeypatch.setattr(Path, "unlink", _unless_partial(Path.unlink))
    original = os.fsync if call == "fsync" else Path.replace
    for attempt in range(1, 50):
        left = attempt

        def dying(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise Killed
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(*(store.os, "fsync") if call == "fsync" else (Path, "replace"), dying)
            try:
                (record,) = run_cells(plan.cells, make_lab(plan, tmp_path / "cut"), Quiet(), "failed")
                break
            except Killed:
                continue
    assert attempt > 4
    assert record.outcome() == whole.outcome()
    assert Store.open(tmp_path / "cut").record(record.id) == record


def _unless_partial(unlink: Any) -> Any:
    """A killed process does not tidy up what it was writing."""

    def kept(self: Path, missing_ok: bool = False) -> None:
        if not (missing_ok and self.name.startswith(".")):
            unlink(self, missing_ok=missing_ok)

    return kept
