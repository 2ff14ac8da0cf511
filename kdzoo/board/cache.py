"""What boards use of the records of a store. Only new records are parsed: a file keeps what was read of the others.

It holds nothing that the records do not, and may be deleted at any time. Where it cannot be used, every record is
parsed, which gives the same board and takes longer.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json, to_json

from kdzoo.board.parsing import CachedRecord, RecordParser, digests_of, parse_lines, results_of
from kdzoo.board.rows import SeedResult
from kdzoo.errors import KdzooError, OddFileError, os_reason
from kdzoo.files import MOST_KEPT, atomic_write, read_plain, read_with_status
from kdzoo.jsontext import damaged
from kdzoo.record import EVALUATION, SCHEMA
from kdzoo.store import Store

FILE = "board.jsonl"
"""Its first line has the form and a hash of the others, the second what digests stand for, each other one record."""

_MOST_BYTES = 2**36
"""Bytes of it: of a hundred million records."""

_FORM = f"8; kdzoo {version('kdzoo')}; record {SCHEMA}; evaluation {EVALUATION}"
"""Raise its first number when lines get another form within a version."""


class StoredResults(NamedTuple):
    """What was read of a store.

    Attributes:
        results: what boards use of all records that could be read, in the order of their ids.
        ids: of these records, and of those that have no row.
        problems: a sentence for each record that could not be read.
    """

    results: list[SeedResult]
    ids: set[str]
    problems: list[str]


def read_results(store: Store, *, processes: int = 1) -> StoredResults:
    """Read what boards use of the records of a store.

    Args:
        store: an open store.
        processes: how many may parse where there is much that is new. Above one they are spawned, which runs a script
            that has no ``if __name__ == "__main__"`` again.
    """
    kept, texts, problems = _refreshed(store, processes)
    return StoredResults(results_of(kept, texts), {one.id for one in kept}, problems)


def refresh(store: Store) -> None:
    """Parse the records that are new, so that no board needs to. What cannot be read, boards will tell."""
    with contextlib.suppress(OSError):
        _refreshed(store, 1)


def _refreshed(store: Store, processes: int) -> tuple[list[CachedRecord], dict[str, str], list[str]]:
    """What is kept of all records, in the order of their ids, what digests stand for, and the problems."""
    path = store.path / FILE
    cached, texts = _load(path)
    known = [one for one in cached if one.stamp and stamp_of(record_file(store.cells, one.id)) == one.stamp]
    fresh = sorted(set(store.cell_ids()) - {one.id for one in known})
    read = read_records(store.cells, fresh, processes)
    kept = sorted(known + parse_lines(read.lines), key=attrgetter("id"))
    texts |= read.texts
    if read.lines or len(known) < len(cached):
        _save(path, kept, texts)
    return kept, texts, [problem for _, problem in sorted(read.problems.items())]


def _load(path: Path) -> tuple[list[CachedRecord], dict[str, str]]:
    """What the file keeps, and what digests stand for; nothing, where it is missing, damaged or another version's."""
    try:
        head, _, rest = read_plain(path, _MOST_BYTES).partition(b"\n")
        if from_json(head) != _head(rest):
            return [], {}
    except (OSError, OddFileError, ValueError):
        return [], {}
    texts, *lines = rest.split(b"\n")
    return parse_lines(lines), from_json(texts)


def _save(path: Path, kept: Sequence[CachedRecord], texts: Mapping[str, str]) -> None:
    """Keep this for the next board. The file is replaced whole, so that boards may run at once."""
    used = {digest: texts[digest] for digest in sorted(digests_of(kept))}
    rest = b"\n".join([to_json(used), *(one.line for one in kept)])
    with contextlib.suppress(OSError):  # a store that cannot be written has its board all the same
        atomic_write(path, to_json(_head(rest)) + b"\n" + rest)


def _head(rest: bytes) -> dict[str, str]:
    return {"form": _FORM, "sha256": hashlib.sha256(rest).hexdigest()}


_BATCH = 500
"""Records that a process is given at a time."""

_LEAST = 5000
"""Records that are read before another process would be of use."""

_MOST_PROCESSES = 8
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


def record_file(cells: Path, cell_id: str) -> str:
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


def read_batch(parser: RecordParser, cells: Path, ids: Sequence[str]) -> Readings:
    """Read the records of some cells; those without a record are left out."""
    found = Readings()
    for cell_id in ids:
        path = record_file(cells, cell_id)
        try:
            text, status = read_with_status(path, MOST_KEPT)
            line = parser.line(cell_id, text, path, _stamp(status))
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
    found.texts = parser.new_texts()
    return found


def read_records(cells: Path, ids: Sequence[str], processes: int) -> Readings:
    """Read records; those of cells that have none are left out.

    Args:
        cells: the folder of the cells.
        ids: of cells.
        processes: how many may read at once, this one among them.
    """
    batches = [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]
    workers = min(processes, _MOST_PROCESSES) - 1 if len(ids) >= _LEAST else 0
    parser, whole = RecordParser(), Readings()
    with _started(cells, batches, workers) as futures:
        # The others begin with the first batches, this process with the last ones, until they meet.
        while batches and (not futures or futures[-1].cancel()):
            del futures[-1:]
            whole.add(read_batch(parser, cells, batches.pop()))
        for future, batch in zip(futures, batches, strict=True):
            try:
                whole.add(future.result())
            except BrokenExecutor:  # a process was killed
                whole.add(read_batch(parser, cells, batch))
    return whole


@contextlib.contextmanager
def _started(cells: Path, batches: Sequence[Sequence[str]], workers: int) -> Iterator[list[Future[Readings]]]:
    """What other processes read of some batches; nothing where there are none to start."""
    if workers < 1:
        yield []
        return
    spawned = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawned, initializer=_prepare_worker)
    futures: list[Future[Readings]] = []
    try:
        with contextlib.suppress(OSError):
            futures = [pool.submit(_read_in_worker, cells, batch) for batch in batches]
        yield futures
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that is interrupted stops its workers
    gc.disable()


@cache
def _worker_parser() -> RecordParser:
    return RecordParser()


def _read_in_worker(cells: Path, ids: Sequence[str]) -> Readings:
    return read_batch(_worker_parser(), cells, ids)
