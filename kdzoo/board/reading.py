"""The files of many records -> what is kept of them, by several processes where there is much to read."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path

from kdzoo.board.kept import Keeper
from kdzoo.errors import KdzooError

_LEAST = 1000
"""Records that are read sooner than a process is started."""

_SHARES = 16
"""Batches of a process: in a larger one more of the values of cells are known, in a smaller one less is waited for."""


@dataclass
class Readings:
    """What was kept of some records.

    Attributes:
        lines: in any order.
        texts: JSON of what the names in them stand for.
        problems: a sentence for each record that cannot be read, by its id.
    """

    lines: list[bytes] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def record_path(cells: Path, cell_id: str) -> str:
    """Where the record of a cell is; a text, because paths take longer than what is done with them."""
    return f"{cells}/{cell_id}/record.json"


def stamp_of(file: str | int) -> str:
    """What changes whenever a file is written, by its path or descriptor; empty where it is gone."""
    try:
        status = os.stat(file)  # noqa: PTH116  # which takes no descriptor, and several times as long
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"


def read_records(cells: Path, ids: Sequence[str], processes: int) -> Readings:
    """Read records.

    Args:
        cells: the folder of the cells.
        ids: of cells; those without a record are left out.
        processes: how many may work at once.
    """
    processes = min(processes, ceil(len(ids) / _LEAST))
    batch = max(1, ceil(len(ids) / (_SHARES * max(1, processes))))
    batches = [ids[start : start + batch] for start in range(0, len(ids), batch)]
    whole = Readings()
    for part in _shared(partial(_read, cells), batches, processes):
        whole.lines += part.lines
        whole.texts |= part.texts
        whole.problems |= part.problems
    return whole


def _shared(
    read: Callable[[Sequence[str]], Readings], batches: Sequence[Sequence[str]], processes: int
) -> list[Readings]:
    """Read batches by this process and others, and by this one alone what they cannot."""
    parts: list[Readings | None] = [None] * len(batches)
    if processes > 1:
        # Where processes cannot be started, or are killed, this one reads what is left.
        with contextlib.suppress(OSError, BrokenProcessPool), _pool(processes - 1) as pool:
            futures = [pool.submit(read, batch) for batch in batches]
            for place in reversed(range(len(batches))):
                if futures[place].cancel():  # no other has begun with it
                    parts[place] = read(batches[place])
            for place, future in enumerate(futures):
                parts[place] = parts[place] or future.result()
    return [part or read(batch) for part, batch in zip(parts, batches, strict=True)]


def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=gc.disable)


def _read(cells: Path, ids: Sequence[str]) -> Readings:
    keeper, readings = Keeper(), Readings()
    for cell_id in ids:
        path = record_path(cells, cell_id)
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                line = keeper.line(file.read(), path, stamp_of(file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except KdzooError as error:
            readings.problems[cell_id] = str(error)
        else:
            readings.lines.append(line)
    readings.texts = keeper.texts
    return readings
