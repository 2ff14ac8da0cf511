"""Files of a store on their way to another machine and back, where no folder is shared."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from kdzoo.bench.lab import Lab
from kdzoo.cell import Cell
from kdzoo.errors import OddFileError
from kdzoo.files import atomic_write, read_plain
from kdzoo.matrix import teacher_cell
from kdzoo.store import Store

Parcel: TypeAlias = dict[str, bytes]
"""Path within a store -> content."""

FILES = "files"
"""Folder of a scratch store for the teachers' weight files that are no cell's."""


def pack_teacher(cell: Cell, lab: Lab) -> Parcel:
    """All that a cell needs beside its data: its teacher's record and weights, and what was measured of it."""
    store, parcel = lab.store, pack_measures(lab.store)
    training = teacher_cell(cell.teacher, cell.data) if cell.teacher else None
    if training:
        parcel |= pack_cell(training, store)
    if cell.teacher and cell.teacher.weights == "file":
        path = lab.files[cell.teacher.digest or ""]
        parcel[f"{FILES}/{cell.teacher.digest}{path.suffix}"] = path.read_bytes()
    return parcel


def pack_cell(cell: Cell, store: Store) -> Parcel:
    """What a finished cell leaves: its record, with the curve, its weights and logs; no checkpoints."""
    folder = store.folder(cell.id)
    return _pack(store, (path for path in folder.rglob("[!.]*") if not path.name.startswith("checkpoint-")))


def pack_measures(store: Store) -> Parcel:
    """What was measured of teachers, and what the bank decided to keep of their passes."""
    return _pack(store, (*store.teachers.glob("*/[!.]*"), *store.bank.glob("kept-*.json")))


def _pack(store: Store, paths: Iterable[Path]) -> Parcel:
    return {path.relative_to(store.path).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def unpack(parcel: Parcel, store: Store) -> None:
    """Write what is not there yet; records last, so that no record stands without its weights.

    What the bank decided here stands: cells have read by it.

    Raises:
        UsageError: the disk is full.
    """
    for name in sorted(parcel, key=lambda name: (name.endswith("record.json"), name)):
        path = store.path / name
        with store.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            decided = path.parent == store.bank
            if not path.exists() or (not decided and not _holds(path, parcel[name])):
                atomic_write(path, parcel[name])


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_plain(path, len(content)) == content
    except (OSError, OddFileError):
        return False
