"""Ctrl-C in the middle of a training, and the same command again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waiting import finish, start, wait_until

SCRIPT = Path(sys.executable).with_name("kdzoo")


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(
    kdzoo: Callable[..., Any],
    small: tuple[Any, ...],
    tmp_path: Path,
    records: Callable[[Path], dict[str, Any]],
    starts: Callable[[Path], list[str]],
) -> None:
    arguments = [*map(str, small), "--strategies", "plain", "--epochs", "4", "--out", "runs"]
    bench = start(SCRIPT, *arguments, cwd=tmp_path, env=os.environ | {"TOYS_STAY": "1"})
    kept = wait_until(
        lambda: len(starts(tmp_path / "runs")) == 3 and list(tmp_path.glob("runs/cells/*/checkpoint-*")),
        "the first epoch of the third cell",
        bench,
    )
    bench.send_signal(signal.SIGINT)
    out, err = finish(bench)
    assert bench.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "Stopped. Finished epochs are kept: run the same command again to resume."
    assert "Traceback" not in err
    stopped = records(tmp_path / "runs")
    assert set(stopped) == {"teacher", "ce"}
    plain = kept[0].parent.name
    assert f"{plain}  started" in kdzoo(*arguments, "--dry-run").out

    result = kdzoo(*arguments)
    assert result.code == 0, result.err
    assert "\n2 of 3 cells were already done\n" in result.err
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
