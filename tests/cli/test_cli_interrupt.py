"""Ctrl-C in the middle of a training, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(sys.executable).with_name("kdzoo")


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    kdzoo: Callable[..., Any],
    small: tuple[Any, ...],
    tmp_path: Path,
    records: Callable[[Path], dict[str, Any]],
    starts: Callable[[Path], list[str]],
) -> None:
    arguments = [*map(str, small), "--strategies", "plain", "--epochs", "4", "--out", "runs"]
    slow = {**os.environ, "TOYS_SLEEP": "0.1", "OMP_NUM_THREADS": "1"}  # an epoch of `plain` takes a second, then
    with subprocess.Popen(
        [SCRIPT, *arguments], cwd=tmp_path, env=slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bench:
        deadline = time.monotonic() + 120
        while not (kept := list(tmp_path.glob("runs/cells/*/checkpoint-*"))) or len(starts(tmp_path / "runs")) < 3:
            assert bench.poll() is None, bench.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        bench.send_signal(signal.SIGINT)
        out, err = bench.communicate(timeout=60)
    assert bench.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "Stopped. Finished epochs are kept: run the same command again to go on."
    assert "Traceback" not in err
    stopped = records(tmp_path / "runs")
    assert set(stopped) == {"teacher", "ce"}
    plain = kept[0].parent.name
    assert f"{plain}  started" in kdzoo(*arguments, "--dry-run").out

    result = kdzoo(*arguments)
    assert result.code == 0, result.err
    assert result.err.endswith("2 of 3 cells were done before\n")
    assert starts(tmp_path / "runs").count(plain) == 2
    found = records(tmp_path / "runs")
    assert {name: found[name] for name in stopped} == stopped
    assert [line["epoch"] for line in found["plain"]["curve"]] == [0, 1, 2, 3]
    whole = kdzoo(*arguments, "--out", "whole")
    assert whole.code == 0
    assert records(tmp_path / "whole")["plain"]["curve"] == found["plain"]["curve"]
    assert records(tmp_path / "whole")["plain"]["test"] == found["plain"]["test"]


def test_ctrl_c_before_anything_trains_writes_nothing(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], tmp_path: Path, monkeypatch: Any
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdzoo.cli.running.make_plan", interrupted)
    result = kdzoo(*small, "--strategies", "plain")
    assert (result.code, result.out) == (130, "")
    assert list(tmp_path.iterdir()) == []
