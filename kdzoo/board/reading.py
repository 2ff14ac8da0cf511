"""The files of many records -> what is kept of them, by several processes where there is much to read."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path

from kdzoo.board.kept import Keeper
from kdzoo.errors import KdzooError, OddFileError, os_reason
from kdzoo.files import MOST_KEPT, read_with_status
from kdzoo.jsontext import damaged

_BATCH = 500
"""Records that a process is given at a time."""

_AHEAD = 2
"""Batches that a process has, so that it need not wait for the next one."""

_LEAST = 5000
"""Records that are read before another process would be of use."""

_MOST = 8
"""Processes beyond which the disk, and what one process does with the lines, would be what is waited for."""


@dataclass
class Readings:
    """What was kept of some records.

    Attributes:
        lines: in any order.
        texts: JSON of what the digests in them stand for.
        problems: a sentence for each record that cannot be read, by its cell's id.
    """

    lines: list[bytes] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def add(self, more: Readings) -> None:
        """Take in what was kept of others."""
        self.lines += more.lines
        self.texts |= more.texts
        self.problems |= more.problems


def record_path(cells: Path, cell_id: str) -> str:
    """Where the record of a cell is; a text, because paths take longer than what is done with them."""
    return f"{cells}/{cell_id}/record.json"


def stamp_of(path: str) -> str:
    """What changes whenever a file is written; empty where that cannot be said."""
    try:
        return _stamp(os.stat(path))  # noqa: PTH116  # which takes several times as long
    except OSError:
        return ""


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"


class Reader:
    """Reads records of one folder of cells."""

    def __init__(self, cells: Path) -> None:
        self._cells = cells
        self._keeper = Keeper()

    def read(self, ids: Sequence[str]) -> Readings:
        """Read the records of some cells; those without a record are left out."""
        found = Readings()
        for cell_id in ids:
            path = record_path(self._cells, cell_id)
            try:
                text, status = read_with_status(path, MOST_KEPT)
                line = self._keeper.line(cell_id, text, path, _stamp(status))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OddFileError as error:
                found.problems[cell_id] = str(damaged(path, str(error)))
            except OSError as error:
                found.problems[cell_id] = f"{path}: cannot be read: {os_reason(error)}"
            except KdzooError as error:
                found.problems[cell_id] = str(error)
            else:
                found.lines.append(line)
        found.texts = self._keeper.new_texts()
        return found


def read_records(cells: Path, ids: Sequence[str], processes: int) -> Readings:
    """Read records; those of cells that have none are left out.

    Args:
        cells: the folder of the cells.
        ids: of cells.
        processes: how many may read at once, this one among them.
    """
    batches = deque(ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH))
    reader, whole = Reader(cells), Readings()
    helpers = _start(cells, min(processes, _MOST) - 1 if len(ids) >= _LEAST else 0)
    try:
        while batches or any(helper.given for helper in helpers):
            ready = connection.wait([helper.connection for helper in helpers], timeout=0 if batches else None)
            for helper in [one for one in helpers if one.connection in ready]:
                try:
                    whole.add(helper.hear())
                    while batches and len(helper.given) < _AHEAD:
                        helper.give(batches.popleft())
                except (EOFError, OSError):  # it was killed
                    helpers.remove(helper)
                    batches.extend(helper.given)
            if batches:
                whole.add(reader.read(batches.popleft()))
    finally:
        for helper in helpers:
            helper.process.terminate()
            helper.process.join(1)
    return whole


class _Helper:
    """A process that reads what it is given. Its first message says that it has started.

    Attributes:
        given: what it reads now, and what it reads next.
    """

    def __init__(self, cells: Path) -> None:
        self.given: deque[Sequence[str]] = deque()
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=_help, args=(theirs, cells), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self) -> Readings:
        """What it says: that it has started, which is nothing read, or what it read of the first that it was given."""
        said: Readings = self.connection.recv()
        if self.given:
            self.given.popleft()
        return said

    def give(self, batch: Sequence[str]) -> None:
        """Let it read this too."""
        self.given.append(batch)
        self.connection.send(batch)


def _start(cells: Path, number: int) -> list[_Helper]:
    """As many helpers as can be started."""
    helpers: list[_Helper] = []
    with contextlib.suppress(OSError):
        for _ in range(number):
            helpers.append(_Helper(cells))
    return helpers


def _help(theirs: connection.Connection[Readings, Sequence[str]], cells: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is asked to stop stops its helpers
    gc.disable()
    reader = Reader(cells)
    with contextlib.suppress(EOFError, OSError):
        theirs.send(Readings())
        while True:
            theirs.send(reader.read(theirs.recv()))
