"""How tests start processes and wait for them: for an event, however long a busy machine takes to get there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psutil

PATIENCE = 600.0
"""Seconds until a test gives up waiting: many times what anything takes, and less than pytest's limit for a test."""

T = TypeVar("T")

_started: list[subprocess.Popen[str]] = []


def wait_until(happens: Callable[[], T], what: str, process: subprocess.Popen[str] | None = None) -> T:
    """Wait for an event.

    Args:
        happens: asked again and again.
        what: the event in words, for the message where it does not come.
        process: what brings it about; there is nothing to wait for when it has ended.

    Returns:
        What ``happens`` gave: the first that counts as true.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        over = process is not None and process.poll() is not None  # asked first: its last act may be the event
        if found := happens():
            return found
        assert not over, f"ended before {what}: {_story(process)}"
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s for {what}: {_story(process)}"
        time.sleep(0.02)


def start(*command: object, **settings: Any) -> subprocess.Popen[str]:
    """Start a process in a session of its own, with pipes and with the signals of one that a person starts.

    What the test leaves running is killed after it.

    Args:
        command: its words.
        settings: more of :class:`subprocess.Popen`.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with _default_signals():
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, **(pipes | settings))
    _started.append(process)
    return process


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a process; its output and its errors."""
    try:
        return process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"waited {PATIENCE:.0f} s for the end of {_story(process)}") from None


def output_of(*command: object, **settings: Any) -> str:
    """Run a command to its end, which must be a good one; its output."""
    process = start(*command, **settings)
    out, err = finish(process)
    assert process.returncode == 0, f"{process.args}\nexit code {process.returncode}\n{out}\n{err}"
    return out


def wait_for_end(processes: Iterable[psutil.Process]) -> None:
    """Wait for the end of processes that others started; one that nobody buries has ended too."""
    for process in processes:
        wait_until(lambda process=process: _has_ended(process), f"the end of {process}")


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def end_all() -> None:
    """Kill what the tests before this started and left running, as one that failed does."""
    while _started:
        with _started.pop() as process:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and all of its session, unless it was seen to end: its number may be another's by now."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


def _story(process: subprocess.Popen[str] | None) -> str:
    """What a process is, and what it said; it is ended."""
    if process is None:
        return "nothing brought it about"
    _kill(process)
    out, err = process.communicate()
    return f"{process.args}\nexit code {process.returncode}\n{out}\n{err}"


@contextmanager
def _default_signals() -> Iterator[None]:
    """What is started in the block hears SIGINT, though this process does not, as after ``pytest &`` in a script.

    Not by ``preexec_fn``: the libraries of a test have threads, beside which Python code in a fork may hang.
    """
    ignored = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) == signal.SIG_IGN]
    for each in ignored:
        signal.signal(each, signal.SIG_DFL)
    try:
        yield
    finally:
        for each in ignored:
            signal.signal(each, signal.SIG_IGN)
