"""Reading other people's folders and files: bounded, no link followed, every failure a line and none an exception."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from kdzoo.cell import canonical_json
from kdzoo.errors import KdzooError, OddFileError, os_reason
from kdzoo.files import read_plain
from kdzoo.foreign import printable
from kdzoo.jsontext import MEND
from kdzoo.record import Record, parse_record
from kdzoo.study import Study, parse_study

_T = TypeVar("_T")

MOST_JSON_BYTES = 1 << 20
"""Of a record or a study; one of 300 epochs takes 50 KB."""

MOST_IN_ALL = 1 << 28
"""Of all records and studies of a folder together: some ten thousand of 100 epochs."""

MOST_FILES = 100_000
"""Of a folder."""

_MOST_WHOLE = 2**53
_MOST = 1e100
"""Numbers above these are no result, and boards could not add and square them."""

_LONGEST = 400
"""Characters of a reason."""


class Fault(NamedTuple):
    """What is wrong with a file, in one line.

    Args:
        file: its path, or the folder it is about, relative to the folder that was read.
        reason: what is wrong, and how to mend it.
    """

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class UnreadableError(KdzooError):
    """A file was not read, and why; made a :class:`Fault` by who knows its name."""


def fault(file: PurePosixPath | str, reason: str) -> Fault:
    """A fault whose texts, which may be hostile, are one line without control characters."""
    return Fault(printable(str(file), _LONGEST), printable(reason, _LONGEST))


def read_bytes(path: Path, most: int = MOST_JSON_BYTES) -> bytes:
    """The content of a plain file, of at most so many bytes.

    Raises:
        UnreadableError: it is no plain file, larger, or cannot be read.
    """
    try:
        return read_plain(path, most, follow=False)
    except OddFileError as error:
        raise UnreadableError(str(error)) from None
    except OSError as error:
        raise UnreadableError(f"cannot be read ({os_reason(error)})") from None


class Reading:
    """Records and studies of a folder that may be hostile.

    Args:
        folder: where.
        mend: what to advise for damage, in the place of :data:`kdzoo.jsontext.MEND`.

    Attributes:
        faults: what is wrong with files.
    """

    def __init__(self, folder: Path, mend: str = MEND) -> None:
        self.folder, self._mend = folder, mend
        self.faults: list[Fault] = []
        self._left = MOST_IN_ALL

    def value(self, path: PurePosixPath, parse: Callable[[bytes, str], _T]) -> tuple[_T, bool] | None:
        """What a file holds, and whether it is written as kdzoo writes it: canonical JSON, so every key once.

        None, and a fault, where it cannot be read, is no such value, or holds a number that no board could compute
        with. Once too many bytes were read, nothing more is.

        Args:
            path: the file, in the folder.
            parse: makes a value of its content and its name, which may raise a :class:`KdzooError`.
        """
        if self._left < 0:
            return None
        try:
            content = read_bytes(self.folder / path)
            self._left -= len(content)
            if self._left < 0:
                return None
            found = parse(content, "")
            plain = json.loads(content, parse_int=_whole, parse_float=_number)
        except KdzooError as error:
            self.faults.append(fault(path, str(error).removeprefix(": ").replace(MEND, self._mend)))
            return None
        return found, content == f"{canonical_json(plain)}\n".encode()

    def finish(self, place: str) -> None:
        """Note, of a place in the folder, if not all was read."""
        if self._left < 0:
            reason = f"holds more than {MOST_IN_ALL:,} bytes of records and studies, and the rest is not read"
            self.faults.append(fault(place, reason))


def _whole(text: str) -> int:
    if abs(value := int(text)) > _MOST_WHOLE:
        raise UnreadableError(f"holds the number {text}, which is too large")
    return value


def _number(text: str) -> float:
    if not abs(value := float(text)) <= _MOST:
        raise UnreadableError(f"holds the number {text}, which is too large")
    return value


def walk(
    folder: Path, may_enter: Callable[[PurePosixPath], bool], faults: list[Fault], most: int = MOST_FILES
) -> list[PurePosixPath]:
    """The plain files of a folder, sorted, by their paths in it.

    Args:
        folder: where.
        may_enter: whether an inner folder is looked into.
        faults: gets a line for whatever else is there.
        most: entries after which it stops.
    """
    found: list[PurePosixPath] = []
    waiting = [PurePosixPath()]
    seen = 0
    while waiting:
        inner = waiting.pop()
        for entry in _entries(folder / inner, inner, faults):
            seen += 1
            if seen > most:
                faults.append(fault(inner, f"the folder holds more than {most:,} files, and the rest is not read"))
                return sorted(found)
            path = inner / entry.name
            if entry.is_symlink():
                faults.append(fault(path, "is a symbolic link, which is not followed"))
            elif entry.is_dir(follow_symlinks=False):
                if may_enter(path):
                    waiting.append(path)
                else:
                    faults.append(fault(path, "is a folder where none belongs"))
            elif entry.is_file(follow_symlinks=False):
                found.append(path)
            else:
                faults.append(fault(path, "is no plain file"))
    return sorted(found)


def _entries(folder: Path, inner: PurePosixPath, faults: list[Fault]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        faults.append(fault(inner, f"cannot be read ({os_reason(error)})"))


def bounded_record(content: bytes, where: str) -> Record:
    """As :func:`kdzoo.record.parse_record`.

    Raises:
        KdzooError: it is no record that this kdzoo reads, or its curve is too long.
    """
    record = parse_record(content, where)
    _bound(len(record.curve), record.cell.recipe.epochs, f"{where}: has a curve", "its recipe")
    return record


def bounded_study(content: bytes, where: str) -> Study:
    """As :func:`kdzoo.study.parse_study`.

    Raises:
        KdzooError: it is no study that this kdzoo reads, or the curve of a trial is too long.
    """
    study = parse_study(content, where)
    for number, trial in enumerate(study.trials):
        _bound(len(trial.curve), study.plan.trial_recipe.epochs, f"{where}: trial {number} has a curve", "a trial")
    return study


def _bound(lines: int, epochs: int, what: str, whose: str) -> None:
    if lines > epochs:
        raise KdzooError(f"{what} of {lines:,} lines, and {whose} {epochs:,} epochs")
