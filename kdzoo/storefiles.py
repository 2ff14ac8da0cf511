"""The files of a store: whether a folder is one, the values that its files hold, and what is wrong with them.

No torch here. A folder is a store by its marker, ``store.json``, else by the cells that it holds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from kdzoo.cell import Cell, canonical_json
from kdzoo.errors import DamagedError, KdzooError, OddFileError, UsageError, os_reason
from kdzoo.files import MOST_KEPT, atomic_write, read_plain, set_aside
from kdzoo.jsontext import MEND, damaged
from kdzoo.record import Record, parse_record
from kdzoo.study import Study, parse_study

STORE_SCHEMA = 1
MARKER = "store.json"
_OWN = frozenset({"cells", "teachers", "studies", "locks", "bank", "events.jsonl", "board.jsonl"})
_LONGEST_MARKER = 4096
_ID = re.compile("[0-9a-f]{16}")
_TRIED = 100
"""Cells that are looked at before a folder is not taken for a store."""


def read_record(folder: Path) -> Record | None:
    """The record in the folder of a cell; None where there is none.

    Raises:
        DamagedError: it is not what kdzoo wrote, or another cell's.
        KdzooError: it is newer, or may not be read.
    """
    path = folder / "record.json"
    content = _content(path)
    return None if content is None else parse_record(content, str(path), cell_id=folder.name)


def read_cell(folder: Path) -> Cell | None:
    """The plan in the folder of a cell; None where there is none.

    Raises:
        UsageError: it is damaged, or another cell's.
        KdzooError: it may not be read.
    """
    path = folder / "cell.json"
    try:
        content = _content(path)
        cell = None if content is None else Cell.model_validate_json(content)
    except ValidationError as error:
        raise _damaged_plan(path, error.errors()[0]["msg"]) from None
    except DamagedError as error:
        raise _damaged_plan(path, str(error).removeprefix(f"{path}: ").removesuffix(f"; {MEND}")) from None
    if cell is not None and cell.id != folder.name:
        raise _damaged_plan(path, f"it is the plan of cell {cell.id}")
    return cell


def read_study(path: Path) -> Study | None:
    """The study in a file; None where there is none.

    Raises:
        DamagedError: it is not what kdzoo wrote, or another study.
        KdzooError: it is newer, or may not be read.
    """
    content = _content(path)
    study = None if content is None else parse_study(content, str(path))
    if study is not None and study.id != path.stem:
        raise damaged(str(path), f"it is the study {study.id}")
    return study


def check_writable(path: Path) -> None:
    """See that a file that is written at its end or locked is a plain one, or not there yet.

    Raises:
        UsageError: something else stands in its place, which could not be written or would wait for a reader.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is in the place of a file of kdzoo; move it away")


def _content(path: Path) -> bytes | None:
    try:
        return read_plain(path, MOST_KEPT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OddFileError as error:
        raise damaged(str(path), str(error)) from None
    except OSError as error:
        raise KdzooError(f"{path}: cannot be read: {os_reason(error)}") from None


def _damaged_plan(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} is damaged: {reason}; the bench that planned it writes it again")


def is_id(name: str) -> bool:
    """Whether a folder's name is that of a cell."""
    return _ID.fullmatch(name) is not None


def is_store(path: Path) -> bool:
    """Whether a folder is a store, perhaps one that lost its marker."""
    return (path / MARKER).is_file() or holds_cells(path)


def holds_cells(path: Path) -> bool:
    """Whether a folder is a store beyond doubt: it holds the whole plan or record of a cell, under the cell's id."""
    with contextlib.suppress(OSError), os.scandir(path / "cells") as entries:
        ids = [entry.name for entry in itertools.islice(entries, _TRIED) if is_id(entry.name)]
        return any(_holds_cell(path / "cells" / each, each) for each in ids)
    return False


def _holds_cell(folder: Path, cell_id: str) -> bool:
    with contextlib.suppress(OSError, ValueError, OddFileError):
        if Cell.model_validate_json(read_plain(folder / "cell.json", MOST_KEPT)).id == cell_id:
            return True
    with contextlib.suppress(OSError, KdzooError):
        parse_record(read_plain(folder / "record.json", MOST_KEPT), "", cell_id=cell_id)
        return True
    return False


def check_readable(path: Path) -> None:
    """See that a folder is a store that this kdzoo reads.

    Raises:
        UsageError: there is no store, or it was written by a newer kdzoo.
    """
    marker = path / MARKER
    if path.is_file():
        raise UsageError(f"{path} is a file, and a store of runs is a folder")
    schema = _schema(marker)
    if schema is not None and schema > STORE_SCHEMA:
        raise UsageError(
            f"{path} was written by a newer kdzoo (store schema {schema}, this one reads up to {STORE_SCHEMA});"
            " upgrade kdzoo or give another --out"
        )
    if schema is not None or holds_cells(path):
        return
    if os.path.lexists(marker):
        raise UsageError(f'{marker} is unreadable; a store\'s marker reads {{"schema":{STORE_SCHEMA}}}')
    if (path / "records").is_dir():
        raise UsageError(
            f"{path} is a published folder: its boards are in {path / 'index.md'}; "
            "give a folder of runs, which `kdzoo bench --out` makes"
        )
    if not os.path.lexists(path):
        raise UsageError(f"there is no run directory {path}; `kdzoo bench --out {path}` creates it")
    raise UsageError(f"{path} is not a store of runs; `kdzoo bench --out {path}` makes one")


def check_out(path: Path) -> None:
    """See that a folder is a store that can be written, or can become one; nothing is written yet.

    Raises:
        UsageError: the path is a file, is read-only, or holds a newer store or other files.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out {path} is a file; give a folder")
        if os.path.lexists(path / MARKER) or holds_cells(path):
            check_readable(path)
        elif path.is_dir() and any(_is_foreign(entry) for entry in path.iterdir()):
            raise UsageError(f"--out {path} holds other files; give an empty or a new folder")
        nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise unwritable(path, error) from None
    if not nearest.is_dir():
        raise UsageError(f"--out {path} cannot be made: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"--out {path} cannot be written: permission denied")


def unwritable(path: Path, error: OSError) -> UsageError:
    """What to say where a store cannot be written."""
    reason = os_reason(error)
    return UsageError(f"--out {path} cannot be written: {reason}")


def _is_foreign(entry: Path) -> bool:
    """Whether kdzoo would not have made this; a store whose first moments were cut short may lack its marker."""
    return entry.name not in _OWN and not entry.name.startswith(".")


def write_marker(path: Path, say: Callable[[str], None]) -> None:
    """Write a store's marker, if there is none that can be read; what stands in its place is set aside.

    Args:
        path: the store.
        say: is told if the store had one.
    """
    marker = path / MARKER
    if _schema(marker) is not None:
        return
    kept = f" (the damaged one is now {set_aside(marker).name})" if os.path.lexists(marker) else ""
    atomic_write(marker, (canonical_json({"schema": STORE_SCHEMA}) + "\n").encode())
    if holds_cells(path):
        say(f"{marker} was {'damaged' if kept else 'gone'} and is recreated, because there are intact cells{kept}")


def _schema(marker: Path) -> int | None:
    """The schema that a marker tells; None where it is not there or tells none."""
    try:
        schema = json.loads(read_plain(marker, _LONGEST_MARKER))["schema"]
    except (OSError, OddFileError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return schema if type(schema) is int and schema >= 1 else None
