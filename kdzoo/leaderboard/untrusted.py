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
from kdzoo.record import Record, parse_record
from kdzoo.study import Study, parse_study

T = TypeVar("T")

MOST_BYTES = 1 << 20
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


class UnreadableError(Exception):
    """A file was not read, and why; made a :class:`Fault` by who knows its name."""


def fault(file: PurePosixPath | str, reason: str) -> Fault:
    """A fault whose texts, which may be hostile, are one line without control characters."""
    return Fault(printable(str(file), _LONGEST), printable(reason, _LONGEST))


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
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


class Allowance:
    """How many bytes may still be read; once they are not enough for a file, nothing more is read."""

    def __init__(self, most: int | None = None) -> None:
        self._left = MOST_IN_ALL if most is None else most
        self.spent = False

    def take(self, content: bytes) -> None:
        """Count what was read.

        Raises:
            UnreadableError: it is more than was left.
        """
        self._left -= len(content)
        if self._left < 0:
            self.spent = True
            raise UnreadableError("would be more than may be read")

    def faults(self, place: str) -> list[Fault]:
        """One line, if not all was read."""
        told = f"holds more than {MOST_IN_ALL:,} bytes of records and studies, and the rest is not read"
        return [fault(place, told)] if self.spent else []


def read_value(path: Path, parse: Callable[[bytes, str], T], allowance: Allowance) -> tuple[T, bool]:
    """What a file holds, and whether it is written as kdzoo writes it: canonical JSON, so every key once.

    Args:
        path: the file.
        parse: makes a value of its content and its name, which may raise a :class:`KdzooError`.
        allowance: what may still be read of the folder.

    Raises:
        UnreadableError: it cannot be read, is no such value, or holds a number that no board could compute with; or the
            allowance is spent.
    """
    content = read_bytes(path)
    allowance.take(content)
    try:
        found = parse(content, "")
    except KdzooError as error:
        raise UnreadableError(str(error).removeprefix(": ")) from None
    plain = json.loads(content, parse_int=_whole, parse_float=_number)
    return found, content == f"{canonical_json(plain)}\n".encode()


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
