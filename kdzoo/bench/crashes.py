"""Cells that crash their process: each start is marked, and a mark that is found again is a crash.

A crash counts where the cell has no newer checkpoint than at its start. It was the cell's own where the process left
word (a fault such as SIGSEGV, a call of ``os._exit``), or where the system ended a process for want of memory
meanwhile. The cause of a SIGKILL is unknown, so more of those are allowed. Ctrl-C, SIGTERM, SIGHUP and a restart of the
machine count for nothing.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from kdzoo.errors import OddFileError
from kdzoo.files import MOST_TEXT, discard, read_plain
from kdzoo.foreign import line

OWN_LIMIT = 2
"""Crashes by a cell's own fault before it is passed over."""
UNEXPLAINED_LIMIT = 4
"""Crashes of unknown cause before it is passed over."""

_MARK, _FAULT_FILE = ".attempt", ".last-words"
"""Files in a cell's folder; the names begin with a dot, so that whoever ends a cell's run tidies them away."""

_STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_live: list[StartMark] = []
_words: list[TextIO] = []
"""The open file of faults, while a cell runs."""


@dataclass(frozen=True)
class Crashes:
    """How often a cell crashed its process with the same newest checkpoint.

    Args:
        place: finished epochs.
        own: crashes by its own fault.
        others: crashes of unknown cause.
        reason: of the last one that was explained.
    """

    place: int = 0
    own: int = 0
    others: int = 0
    reason: str = ""

    @property
    def count(self) -> int:
        """All of them."""
        return self.own + self.others

    @property
    def fatal(self) -> str:
        """Why the cell is not tried again; empty where it is."""
        if self.own < OWN_LIMIT and self.count < UNEXPLAINED_LIMIT:
            return ""
        return self.summary

    @property
    def summary(self) -> str:
        """How often, where and of what, if there was any."""
        times = "once" if self.count == 1 else f"{self.count} times"
        what = self.reason or "it was killed, probably because memory ran out"
        return f"its process died {times} in epoch {self.place}: {what}"


class StartMark:
    """The mark of a start in a cell's folder.

    Args:
        folder: of the cell.
        crashes: that were counted before.
    """

    def __init__(self, folder: Path, crashes: Crashes) -> None:
        self.folder, self.crashes = folder.absolute(), crashes

    def set(self) -> None:
        """Write it, and keep a fault beside it."""
        self._write(_here())
        with contextlib.suppress(OSError):
            discard(self.folder / _FAULT_FILE)
            if _words:  # cells in lockstep: one file, which stands in the folder of each
                os.link(_live[0].folder / _FAULT_FILE, self.folder / _FAULT_FILE)
            elif not faulthandler.is_enabled():  # else somebody asked for it, and gets it where they asked for it
                _words.append((self.folder / _FAULT_FILE).open("w", encoding="utf-8"))
                faulthandler.enable(_words[0], all_threads=False)
        _live.append(self)

    def withdraw(self) -> None:
        """The process goes on, or a person ends it: this start was no crash."""
        if self not in _live:
            return
        _live.remove(self)
        if _words and not _live:
            faulthandler.disable()
            _words.pop().close()
        discard(self.folder / _FAULT_FILE)
        if self.crashes.count:
            self._write({})
        else:
            discard(self.folder / _MARK)

    def write_fault(self, words: str) -> None:
        """Keep the fault that ends the process."""
        with contextlib.suppress(OSError):
            (self.folder / _FAULT_FILE).write_text(words, encoding="utf-8")

    def _write(self, where: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            discard(self.folder / _MARK)  # to write into a pipe would wait for a reader
            (self.folder / _MARK).write_text(json.dumps({**vars(self.crashes), **where}), encoding="utf-8")


@contextmanager
def start_marked(folder: Path, crashes: Crashes) -> Iterator[None]:
    """The ``with`` block runs a cell; that it ends, however, is no crash."""
    mark = StartMark(folder, crashes)
    mark.set()
    try:
        yield
    finally:
        mark.withdraw()


def crashes_of(folder: Path, homes: Sequence[Path] = ()) -> Crashes:
    """The crashes of a cell that is about to start; the caller holds the cell.

    Args:
        folder: of the cell.
        homes: folders and files of its strategy's code, of which a reason names the line.
    """
    numbers = [path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")]
    place = max((int(each) for each in numbers if each.isdecimal()), default=0)  # others were set aside
    try:
        saved = json.loads(read_plain(folder / _MARK, MOST_TEXT))
        before = Crashes(**{name: saved[name] for name in vars(Crashes())})
        if before.place != place:
            before = Crashes(place)
        if "boot" not in saved or (saved["boot"], saved["host"]) != (_here()["boot"], _here()["host"]):
            return before
        words = folder / _FAULT_FILE
        left = read_plain(words, MOST_TEXT).decode(errors="replace") if words.is_file() else ""
        reason = _sense_of(left, homes)
        if not reason and saved["oom"] is not None and _here()["oom"] != saved["oom"]:
            reason = "out of memory: the system killed a process meanwhile"
    except (OSError, OddFileError, ValueError, TypeError, KeyError):
        return Crashes(place)
    if reason:
        return Crashes(place, before.own + 1, before.others, reason)
    return Crashes(place, before.own, before.others + 1, before.reason)


def _sense_of(words: str, homes: Sequence[Path]) -> str:
    """The fault, and the innermost line of Python, of the strategy's own code if there is one."""
    lines = [each.strip() for each in words.splitlines() if each.strip()]
    if not lines:
        return ""
    reason = line(lines[0].removeprefix("Fatal Python error: "))
    frames = [each.split('"') for each in lines if each.startswith("File ")]
    theirs = [each for each in frames if any(Path(each[1]).is_relative_to(home) for home in homes)]
    parts = next(iter(theirs or frames), [])
    place = f" ({Path(parts[1]).name}:{parts[2].split()[2].rstrip(',')})" if len(parts) > 2 else ""
    return reason + place


def _here() -> dict[str, Any]:
    """What tells this run of the machine from others, and how often memory ran out in it; None where it is not told."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    counts = Path("/proc/vmstat")
    found: dict[str, Any] = {"host": socket.gethostname(), "boot": "", "oom": None}
    with contextlib.suppress(OSError):
        found["boot"] = boot.read_text().strip()
    with contextlib.suppress(OSError):
        for each in counts.read_text().splitlines():
            if each.startswith("oom_kill "):
                found["oom"] = int(each.split()[1])
    return found


@contextmanager
def marking_exits() -> Iterator[None]:
    """In the ``with`` block, that a person ends this process is told from a cell's doing so."""
    before = {number: signal.getsignal(number) for number in _STOPS}
    ours = threading.current_thread() is threading.main_thread()
    handled = [number for number, handler in before.items() if ours and handler is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _stopped)
    leave = os._exit
    os._exit = _noting(leave)  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _stopped(number: int, frame: FrameType | None) -> None:
    for mark in list(_live):
        mark.withdraw()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _noting(leave: Callable[[int], Any]) -> Callable[[int], Any]:
    owner = os.getpid()

    def noted(status: int) -> None:
        if os.getpid() == owner:  # a process that was forked from this one ends in the same way
            for mark in _live:
                mark.write_fault(f"os._exit({status})")
            if _live:
                exited = f"the strategy of a cell terminated this process: os._exit({status})"
                with contextlib.suppress(OSError):
                    os.write(2, f"\n{exited}; run the same command again\n".encode())
        leave(status)

    return noted
