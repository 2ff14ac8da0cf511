"""The helper by which tests start processes and wait for them: tests/waiting.py."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import psutil
import pytest
import waiting
from waiting import end_all, finish, start, wait_for_end, wait_until

WAITS = "import time; print('here', flush=True); time.sleep(3600)"


@pytest.fixture
def _in_the_background() -> Iterator[None]:
    """As `nohup pytest &` leaves this process."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    assert signal.signal(signal.SIGINT, before) == signal.SIG_IGN


@pytest.mark.usefixtures("_in_the_background")
def test_what_is_started_hears_ctrl_c_though_this_process_does_not() -> None:
    process = start(sys.executable, "-c", WAITS)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, err = finish(process)
    assert err.endswith("KeyboardInterrupt\n")


def test_the_last_act_of_a_process_may_be_the_event(tmp_path) -> None:
    process = start(sys.executable, "-c", "open('done', 'w')", cwd=tmp_path)
    assert wait_until(lambda: list(tmp_path.glob("done")), "the file", process) == [tmp_path / "done"]


def test_a_process_that_ends_before_the_event_is_told_with_all_it_said() -> None:
    process = start(sys.executable, "-c", "import sys; print('well'); sys.exit('no file')")
    with pytest.raises(AssertionError, match=r"^ended before the file: (?s:.*)exit code 1\nwell\n\nno file\n"):
        wait_until(lambda: False, "the file", process)


def test_what_takes_too_long_is_told_with_all_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(sys.executable, "-c", WAITS)
    assert process.stdout.readline() == "here\n"
    monkeypatch.setattr(waiting, "PATIENCE", 0.1)
    with pytest.raises(AssertionError, match=r"^waited 0 s for the end of (?s:.*)time.sleep(?s:.*)exit code -9"):
        finish(process)
    with pytest.raises(AssertionError, match=r"^waited 0 s for the file: "):
        wait_until(lambda: False, "the file")


def test_what_a_test_leaves_behind_is_killed_with_what_it_started() -> None:
    grandchild = f"import os; print(os.getpid()); {WAITS}"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    process = start(sys.executable, "-c", child)
    below = psutil.Process(int(process.stdout.readline()))
    assert process.stdout.readline() == "here\n"
    end_all()
    assert process.returncode == -signal.SIGKILL
    wait_for_end([below])
