"""Records and studies -> the published folder that holds them, with the files that are made from them."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdzoo.errors import KdzooError, UsageError
from kdzoo.files import atomic_write
from kdzoo.leaderboard.charts.all import Chart
from kdzoo.leaderboard.check.drawings import drawing_fault
from kdzoo.leaderboard.check.made_files import MOST_BYTES
from kdzoo.leaderboard.generate import generated_files
from kdzoo.leaderboard.layout import RECORDS, Leaderboard, read_leaderboard, record_path, study_path
from kdzoo.leaderboard.untrusted import Fault, UnreadableError, read_bytes
from kdzoo.marker import is_store


class RefusedError(KdzooError):
    """Nothing was written, and why: one sentence, and a line for each thing that is wrong."""

    def __init__(self, sentence: str, lines: Iterable[str]) -> None:
        super().__init__(sentence)
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Written:
    """The files of a folder that changed, by their paths in it.

    Attributes:
        records: new or changed records and studies.
        made: new or changed files that are made from records.
        removed: files that were made from records which are gone.
    """

    records: tuple[PurePosixPath, ...]
    made: tuple[PurePosixPath, ...]
    removed: tuple[PurePosixPath, ...]


def open_target(folder: Path) -> Leaderboard:
    """What a folder that is to be written holds; nothing where it is new or empty.

    Raises:
        UsageError: it is a file, or a store of runs.
        RefusedError: it holds something that is wrong, or not kdzoo's.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    if is_store(folder):
        raise UsageError(f"{folder} is a store of runs; give another folder, such as leaderboards")
    found = read_leaderboard(folder)
    if found.faults or (found.others and not (folder / RECORDS).exists()):
        lines = [*map(str, found.faults), *(f"{path}: is not kdzoo's" for path in found.others if not found.faults)]
        raise RefusedError(f"{folder} cannot be added to; put these right, or give a new folder:", lines)
    return found


def write_folder(folder: Path, old: Leaderboard, new: Leaderboard, *, redraw: bool = False) -> Written:
    """Bring a folder from what it holds to what it shall hold. Each file is replaced whole, the records first.

    Args:
        folder: where; made if it is not there.
        old: what was read from it.
        new: the records and studies that it shall hold, among them all of the old ones' ids.
        redraw: whether plots are drawn anew that show these records already.

    Raises:
        UsageError: it cannot be written.
    """
    before = {record_path(one): one.to_json() for one in old.records}
    before |= {study_path(one): one.to_json() for one in old.studies}
    texts = {record_path(one): one.to_json() for one in new.records}
    texts |= {study_path(one): one.to_json() for one in new.studies}
    records = {path: text.encode() for path, text in texts.items() if before.get(path) != text}
    there = set(old.others)

    def drawn(path: PurePosixPath, chart: Chart) -> bytes | None:
        content = _content(folder / path) if path in there and not redraw else None
        return content if content is not None and not drawing_fault(content, chart, path.suffix) else None

    files = generated_files(new, drawn)
    made = {path: content for path, content in files.items() if path not in there or _content(folder / path) != content}
    removed = sorted(there - files.keys())
    with _told(folder):
        (folder / RECORDS).mkdir(parents=True, exist_ok=True)
        for path, content in {**records, **made}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / path, content)
        for path in removed:
            (folder / path).unlink(missing_ok=True)
        for place in sorted({path.parent for path in removed}, reverse=True):
            _remove_empty(folder, place)
    return Written(tuple(sorted(records)), tuple(sorted(made)), tuple(removed))


def _content(path: Path) -> bytes | None:
    """A file's content; None where it is not there or cannot be read, and is written anew."""
    try:
        return read_bytes(path, MOST_BYTES)
    except UnreadableError:
        return None


def _remove_empty(folder: Path, place: PurePosixPath) -> None:
    """Remove a folder of made files, and those around it, as far as they are empty."""
    while place.parts and place.parts[0] != RECORDS and (folder / place).is_dir():
        if any((folder / place).iterdir()):
            return
        (folder / place).rmdir()
        place = place.parent


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
        raise UsageError(f"{folder} cannot be written: {reason}") from None


def as_lines(faults: Iterable[Fault], within: Path) -> list[str]:
    """Faults of a folder, each with the folder's name before it."""
    return [f"{within / one.file}: {one.reason}" for one in faults]
