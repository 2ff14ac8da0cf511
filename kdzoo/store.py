"""The store: one folder a cell, written so that a kill at any moment harms nothing. No torch here."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from kdzoo.cell import Cell, canonical_json
from kdzoo.errors import KdzooError, UsageError
from kdzoo.files import atomic_write
from kdzoo.record import Record, parse_record
from kdzoo.study import Study, parse_study

STORE_SCHEMA = 1
_LONGEST_MARKER = 4096
_OWN = frozenset({"cells", "teachers", "studies", "locks", "bank", "events.jsonl", "board.jsonl"})

State = Literal["done", "pruned", "failed", "started", "new"]


class Store:
    """A folder of runs.

    ``store.json`` names the schema; ``cells/ID/`` holds a cell's ``cell.json``, ``record.json``, weights and
    checkpoints; ``teachers/KEY/`` holds what was measured of a teacher; ``studies/ID.json`` holds a study of tuning;
    ``bank/KEY/`` holds signals of a teacher; ``events.jsonl`` tells what happened when; ``board.jsonl`` spares boards
    to parse what is parsed already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells = path / "cells"
        self.teachers = path / "teachers"
        self.studies = path / "studies"
        self.bank = path / "bank"

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open a store to read.

        Raises:
            UsageError: there is no store, or it was written by a newer kdzoo.
        """
        marker = path / "store.json"
        if path.is_file():
            raise UsageError(f"{path} is a file, and a store of runs is a folder")
        if not marker.is_file():
            if (path / "records").is_dir():
                raise UsageError(
                    f"{path} is a published folder: its boards are in {path / 'index.md'}; "
                    "give a folder of runs, which `kdzoo bench --out` makes"
                )
            raise UsageError(f"{path} is not a store of runs; `kdzoo bench --out {path}` makes one")
        try:
            with marker.open("rb") as file:
                told = json.loads(file.read(_LONGEST_MARKER))
            schema = told["schema"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            schema = None
        if type(schema) is not int or schema < 1:
            raise UsageError(f'{marker} is unreadable; a store\'s marker reads {{"schema":{STORE_SCHEMA}}}')
        if schema > STORE_SCHEMA:
            raise UsageError(
                f"{path} was written by a newer kdzoo (store schema {schema}, this one reads up to {STORE_SCHEMA});"
                " upgrade kdzoo or give another --out"
            )
        return cls(path)

    @classmethod
    def check(cls, path: Path) -> Store:
        """The store that would be written at a path; nothing is written yet.

        Raises:
            UsageError: the path is a file, is read-only, or holds a newer store or other files.
        """
        try:
            if path.exists() and not path.is_dir():
                raise UsageError(f"--out {path} is a file; give a folder")
            if (path / "store.json").exists():
                store = cls.open(path)
            elif path.is_dir() and any(_is_foreign(entry) for entry in path.iterdir()):
                raise UsageError(f"--out {path} holds other files; give an empty or a new folder")
            else:
                store = cls(path)
            nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        except OSError as error:
            raise _unwritable(path, error) from None
        if not nearest.is_dir():
            raise UsageError(f"--out {path} cannot be made: {nearest} is a file")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise UsageError(f"--out {path} cannot be written: permission denied")
        return store

    @classmethod
    def create(cls, path: Path) -> Store:
        """Open a store to write, made if it is not there.

        Raises:
            UsageError: as :meth:`check`, or the disk is full.
        """
        store = cls.check(path)
        with store.writing():
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"\0" * 65536)
                probe.flush()
            if not (path / "store.json").exists():
                atomic_write(path / "store.json", (canonical_json({"schema": STORE_SCHEMA}) + "\n").encode())
            store.cells.mkdir(exist_ok=True)
            store.teachers.mkdir(exist_ok=True)
            store.studies.mkdir(exist_ok=True)
        return store

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """What cannot be written in the block is told in one sentence.

        Raises:
            UsageError: the disk is full, the folder read-only or gone.
        """
        try:
            yield
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def folder(self, cell_id: str) -> Path:
        """The folder of a cell, whether or not it is there."""
        return self.cells / cell_id

    def plan(self, cell: Cell) -> None:
        """Note that a cell belongs to this store, so that boards can show it as missing until it is done."""
        folder = self.folder(cell.id)
        with self.writing():
            folder.mkdir(exist_ok=True)
            if not (folder / "cell.json").exists():
                atomic_write(folder / "cell.json", (canonical_json(cell.model_dump(mode="json")) + "\n").encode())

    def state(self, cell_id: str) -> State:
        """How far a cell is."""
        folder = self.folder(cell_id)
        if (folder / "record.json").exists():
            return self.record(cell_id).status
        return "started" if any(folder.glob("checkpoint-*")) else "new"

    def record(self, cell_id: str) -> Record:
        """The record of a cell that has one.

        Raises:
            KdzooError: the file is damaged or newer.
            FileNotFoundError: there is none.
        """
        path = self.folder(cell_id) / "record.json"
        return parse_record(path.read_bytes(), str(path))

    def find_record(self, cell_id: str) -> Record | None:
        """The record of a cell, or None."""
        return self.record(cell_id) if (self.folder(cell_id) / "record.json").exists() else None

    def write_record(self, record: Record) -> None:
        """Keep a cell's result; what it replaces is there until this is whole."""
        with self.writing():
            atomic_write(self.folder(record.id) / "record.json", record.to_json().encode())

    def cell_ids(self) -> list[str]:
        """The names of the cells' folders, in any order."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.cells) as folders:
            return [folder.name for folder in folders]
        return []

    def planned(self, known: Container[str] = (), problems: list[str] | None = None) -> Iterator[Cell]:
        """The cells of the store, in the order of their ids, but for those that are known.

        Raises:
            UsageError: a ``cell.json`` is damaged, and no list of problems is given, which gets a sentence for each.
        """
        for cell_id in sorted(self.cell_ids()):
            if cell_id in known or not (self.folder(cell_id) / "cell.json").is_file():
                continue
            try:
                yield self.cell(cell_id)
            except UsageError as error:
                if problems is None:
                    raise
                problems.append(str(error))

    def cell(self, cell_id: str) -> Cell:
        """A planned cell.

        Raises:
            UsageError: its ``cell.json`` is damaged.
        """
        path = self.folder(cell_id) / "cell.json"
        try:
            return Cell.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UsageError(f"{path} is damaged: {error.errors()[0]['msg']}") from None

    def records(self) -> list[Record]:
        """All records of the store, in the order of their ids.

        Raises:
            KdzooError: one is damaged or newer.
        """
        return [self.record(path.parent.name) for path in sorted(self.cells.glob("*/record.json"))]

    def find_study(self, study_id: str) -> Study | None:
        """A study, or None.

        Raises:
            KdzooError: the file is damaged or newer.
        """
        path = self.studies / f"{study_id}.json"
        return parse_study(path.read_bytes(), str(path)) if path.exists() else None

    def write_study(self, study: Study) -> None:
        """Keep a study as far as it is."""
        with self.writing():
            self.studies.mkdir(exist_ok=True)
            atomic_write(self.studies / f"{study.id}.json", study.to_json().encode())

    def readable_studies(self) -> tuple[list[Study], list[str]]:
        """The studies that can be read, in the order of their ids, and why the others cannot."""
        studies, problems = [], []
        for path in sorted(self.studies.glob("*.json")):
            try:
                studies.append(parse_study(path.read_bytes(), str(path)))
            except KdzooError as error:
                problems.append(str(error))
        return studies, problems

    @contextlib.contextmanager
    def claim(self, key: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a cell (or another named thing) so that no other process works on it.

        Yields False at once when another process holds it, unless ``wait``. The system frees the lock when its
        holder dies, however it dies.
        """
        locks = self.path / "locks"
        lock = FileLock(locks / f"{key}.lock")
        try:
            locks.mkdir(exist_ok=True)
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            yield True
        finally:
            lock.release()

    def log(self, event: str, **details: Any) -> None:
        """Append one line to the events; a single write, so that lines of several processes do not mix."""
        line = canonical_json({"time": round(time.time(), 3), "pid": os.getpid(), "event": event, **details}) + "\n"
        with self.writing(), (self.path / "events.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())

    def clear(self, cell_id: str, *, before_record: bool = False) -> None:
        """Forget a cell's checkpoints, and what a killed process left half written; the record stays.

        Only who holds the cell may ask for it.

        Args:
            cell_id: which.
            before_record: forget only checkpoints that are older than the cell's record, if it has one.
        """
        folder = self.folder(cell_id)
        record = folder / "record.json"
        limit = 0 if before_record else None
        if before_record and record.exists():
            limit = record.stat().st_mtime_ns
        for path in folder.glob("checkpoint-*"):
            if limit is None or path.stat().st_mtime_ns <= limit:
                path.unlink()
        for path in folder.glob(".*"):
            if not path.name.startswith(".cell.json"):  # which is written by who does not hold the cell
                path.unlink()


def _is_foreign(entry: Path) -> bool:
    """Whether kdzoo would not have made this; a store whose first moments were cut short may lack its marker."""
    return entry.name not in _OWN and not entry.name.startswith(".")


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
    return UsageError(f"--out {path} cannot be written: {reason}")
