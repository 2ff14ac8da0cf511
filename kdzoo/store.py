"""The store: one folder a cell, written so that a kill at any moment harms nothing. No torch here."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from kdzoo import storefiles
from kdzoo.cell import Cell, canonical_json
from kdzoo.errors import DamagedError, KdzooError, UsageError
from kdzoo.files import atomic_write, discard, make_folder, set_aside
from kdzoo.jsontext import MEND
from kdzoo.record import Record
from kdzoo.study import Study

State = Literal["done", "pruned", "failed", "damaged", "started", "new"]


class Store:
    """A folder of runs.

    ``store.json`` names the schema; ``cells/ID/`` holds a cell's ``cell.json``, ``record.json``, weights and
    checkpoints; ``teachers/KEY/`` holds what was measured of a teacher; ``studies/ID.json`` holds a study of tuning;
    ``bank/KEY/`` holds signals of a teacher; ``events.jsonl`` tells what happened when; ``board.jsonl`` spares boards
    to parse what is parsed already. What is damaged and can be made again is set aside, as ``NAME.damaged-1``.

    Attributes:
        say: is told what was set aside and what is made again; nobody is by default.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.say: Callable[[str], None] = lambda line: None
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
        storefiles.check_readable(path)
        return cls(path)

    @classmethod
    def check(cls, path: Path) -> Store:
        """The store that would be written at a path; nothing is written yet.

        Raises:
            UsageError: the path is a file, is read-only, or holds a newer store or other files.
        """
        storefiles.check_out(path)
        return cls(path)

    @classmethod
    def create(cls, path: Path, say: Callable[[str], None] | None = None) -> Store:
        """Open a store to write, made if it is not there.

        Args:
            path: its folder.
            say: see :class:`Store`.

        Raises:
            UsageError: as :meth:`check`, or the disk is full.
        """
        store = cls.check(path)
        store.say = say or store.say
        with store.writing():
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path) as probe:
                probe.write(b"\0" * 65536)
                probe.flush()
            storefiles.write_marker(path, store.say)
            for folder in (store.cells, store.teachers, store.studies):
                make_folder(folder)
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
            raise storefiles.unwritable(self.path, error) from None

    def folder(self, cell_id: str) -> Path:
        """The folder of a cell, whether or not it is there."""
        return self.cells / cell_id

    def plan(self, cell: Cell) -> None:
        """Note that a cell belongs to this store, so that boards can show it as missing until it is done."""
        path = self.folder(cell.id) / "cell.json"
        with self.writing():
            make_folder(path.parent)
            with contextlib.suppress(UsageError):
                if storefiles.read_cell(path.parent):
                    return
            if os.path.lexists(path):
                self.say(f"{path} is damaged; it is now {set_aside(path).name}, and is written again")
            atomic_write(path, (canonical_json(cell.model_dump(mode="json")) + "\n").encode())

    def state(self, cell_id: str) -> State:
        """How far a cell is."""
        try:
            if record := storefiles.read_record(self.folder(cell_id)):
                return record.status
        except DamagedError:
            return "damaged"
        return "started" if self._checkpoints(cell_id) else "new"

    def record(self, cell_id: str) -> Record:
        """The record of a cell that has one.

        Raises:
            KdzooError: the file is damaged, newer or may not be read.
            FileNotFoundError: there is none.
        """
        record = storefiles.read_record(self.folder(cell_id))
        if record is None:
            raise FileNotFoundError(self.folder(cell_id) / "record.json")
        return record

    def find_record(self, cell_id: str) -> Record | None:
        """The record of a cell; None where there is none, or a damaged one, which whoever runs the cell sets aside.

        Raises:
            KdzooError: the file is newer or may not be read.
        """
        with contextlib.suppress(DamagedError):
            return storefiles.read_record(self.folder(cell_id))
        return None

    def claimed_record(self, cell_id: str) -> Record | None:
        """As :meth:`find_record`, for who holds the cell: a damaged record is set aside now, and said."""
        folder = self.folder(cell_id)
        try:
            return storefiles.read_record(folder)
        except DamagedError as error:
            self._set_aside(folder / "record.json", error, "the cell is retrained")
            return None

    def _set_aside(self, path: Path, error: DamagedError, mend: str) -> None:
        with self.writing():
            kept = set_aside(path).name
        self.say(f"{str(error).removesuffix(f'; {MEND}')}; it is now {kept}, and {mend}")

    def write_record(self, record: Record) -> None:
        """Keep a cell's result; what it replaces is there until this is whole."""
        with self.writing():
            atomic_write(self.folder(record.id) / "record.json", record.to_json().encode())

    def cell_ids(self) -> list[str]:
        """The names of the cells' folders, in any order."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.cells) as folders:
            return [folder.name for folder in folders]
        return []

    def planned(self, known: Container[str] = (), problems: list[str] | None = None) -> Iterator[Cell]:
        """The cells of the store, in the order of their ids, but for those that are known.

        Raises:
            UsageError: a ``cell.json`` is damaged, and no list of problems is given, which gets a sentence for each.
        """
        for cell_id in sorted(self.cell_ids()):
            if cell_id in known or not storefiles.is_id(cell_id):
                continue
            try:
                if cell := storefiles.read_cell(self.folder(cell_id)):
                    yield cell
            except KdzooError as error:
                if problems is None:
                    raise
                problems.append(str(error))

    def cell(self, cell_id: str) -> Cell:
        """A planned cell.

        Raises:
            UsageError: it was not planned, or its ``cell.json`` is damaged.
        """
        if cell := storefiles.read_cell(self.folder(cell_id)):
            return cell
        raise UsageError(f"{self.folder(cell_id)} has no cell.json; the bench that planned it writes it again")

    def records(self) -> list[Record]:
        """All records of the store, in the order of their ids.

        Raises:
            KdzooError: one is damaged or newer.
        """
        return [self.record(path.parent.name) for path in sorted(self.cells.glob("*/record.json"))]

    def find_study(self, study_id: str) -> Study | None:
        """A study; None where there is none, or a damaged one, which whoever goes on with it sets aside.

        Raises:
            KdzooError: the file is newer or may not be read.
        """
        with contextlib.suppress(DamagedError):
            return storefiles.read_study(self.studies / f"{study_id}.json")
        return None

    def claimed_study(self, study_id: str) -> Study | None:
        """As :meth:`find_study`, for who holds the study: a damaged one is set aside now, and said."""
        path = self.studies / f"{study_id}.json"
        try:
            return storefiles.read_study(path)
        except DamagedError as error:
            self._set_aside(path, error, "the study is rebuilt from the records of its trials")
            return None

    def write_study(self, study: Study) -> None:
        """Keep a study as far as it is."""
        with self.writing():
            make_folder(self.studies)
            atomic_write(self.studies / f"{study.id}.json", study.to_json().encode())

    def readable_studies(self) -> tuple[list[Study], list[str]]:
        """The studies that can be read, in the order of their ids, and why the others cannot."""
        studies, problems = [], []
        for path in sorted(self.studies.glob("*.json")):
            try:
                if study := storefiles.read_study(path):
                    studies.append(study)
            except KdzooError as error:
                problems.append(str(error))
        return studies, problems

    @contextlib.contextmanager
    def claim(self, key: str, *, wait: bool = False) -> Iterator[bool]:
        """Hold a cell (or another named thing) so that no other process works on it.

        Yields False at once when another process holds it, unless ``wait``. The system frees the lock when its
        holder dies, however it dies.
        """
        path = self.path / "locks" / f"{key}.lock"
        lock = FileLock(path)
        try:
            path.parent.mkdir(exist_ok=True)
            storefiles.check_writable(path)
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        except OSError as error:
            raise storefiles.unwritable(self.path, error) from None
        try:
            yield True
        finally:
            lock.release()

    def log(self, event: str, **details: Any) -> None:
        """Append one line to the events; a single write, so that lines of several processes do not mix."""
        line = canonical_json({"time": round(time.time(), 3), "pid": os.getpid(), "event": event, **details}) + "\n"
        path = self.path / "events.jsonl"
        with self.writing():
            storefiles.check_writable(path)
            with path.open("ab", buffering=0) as file:
                file.write(line.encode())

    def clear(self, cell_id: str, *, before_record: bool = False) -> None:
        """Forget a cell's checkpoints, and what a killed process left half written; the record stays.

        Only who holds the cell may ask for it.

        Args:
            cell_id: which.
            before_record: forget only checkpoints that are older than the cell's record, if it has one.
        """
        folder = self.folder(cell_id)
        limit = 0 if before_record else None
        if before_record:
            with contextlib.suppress(OSError):
                limit = (folder / "record.json").stat().st_mtime_ns
        for path in self._checkpoints(cell_id):
            if limit is None or path.lstat().st_mtime_ns <= limit:
                discard(path)
        for path in folder.glob(".*"):
            if not path.name.startswith(".cell.json"):  # which is written by who does not hold the cell
                discard(path)

    def _checkpoints(self, cell_id: str) -> list[Path]:
        return [path for path in self.folder(cell_id).glob("checkpoint-*") if ".damaged-" not in path.name]
