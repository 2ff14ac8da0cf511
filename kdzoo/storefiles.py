"""The files of a store, read: the value that one holds, or one sentence on what is wrong with it. No torch here."""

from __future__ import annotations

import stat
from pathlib import Path

from pydantic import ValidationError

from kdzoo.cell import Cell
from kdzoo.errors import DamagedError, KdzooError, OddFileError, UsageError
from kdzoo.files import MOST_KEPT, read_plain
from kdzoo.jsontext import MEND, damaged
from kdzoo.record import Record, parse_record
from kdzoo.study import Study, parse_study


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
        raise UsageError(f"{path} is in the way of a file of kdzoo's; move it away")


def _content(path: Path) -> bytes | None:
    try:
        return read_plain(path, MOST_KEPT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OddFileError as error:
        raise damaged(str(path), str(error)) from None
    except OSError as error:
        raise KdzooError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def _damaged_plan(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} is damaged: {reason}; the bench that planned it writes it again")
