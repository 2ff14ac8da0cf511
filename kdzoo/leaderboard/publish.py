"""From stores of runs and published folders to one: records without weights, and everything that is made from them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kdzoo.errors import KdzooError, UsageError, os_reason
from kdzoo.files import atomic_write
from kdzoo.leaderboard.charts.parts import Chart
from kdzoo.leaderboard.check.published import MOST_PUBLISHED_BYTES, content_faults, drawing_fault
from kdzoo.leaderboard.generate import generated_files
from kdzoo.leaderboard.layout import RECORDS, Leaderboard, path_of_record, path_of_study, read_leaderboard
from kdzoo.leaderboard.private import place_named_in
from kdzoo.leaderboard.union import Prefer, Union, read_source, read_store
from kdzoo.leaderboard.untrusted import Fault, UnreadableError, read_bytes
from kdzoo.storefiles import is_store


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        union: which records and studies were added, replaced, or there already.
        written: the files that changed.
        faults: what `kdzoo check` will find in the records; the files themselves are as it wants them.
    """

    union: Union
    written: Written
    faults: tuple[Fault, ...]


def publish_runs(runs: Sequence[Path], to: Path, *, replace: bool = False, redraw: bool = False) -> Published:
    """Copy what stores hold into a published folder, and make its files anew. All is read before anything is written.

    Copied are the students' records, done and failed, the trainings of their teachers, and finished studies, without
    what :func:`kdzoo.leaderboard.private.publishable` leaves out. What the folder holds stays.

    Args:
        runs: stores; none to make the files anew only.
        to: the published folder, made if it is not there.
        replace: whether a new result replaces one of the same cell that contradicts it.
        redraw: whether plots are drawn anew that show these records already.

    Raises:
        UsageError: a store is none, holds nothing to publish, or the folder cannot be written.
        RefusedError: something cannot be read, or contradicts what is there.
    """
    old = open_target(to)
    if not runs and not old.records:
        raise UsageError(f"{to} holds no records to make files from; give folders of runs")
    union = Union(
        records={record.id: record for record in old.records}, studies={study.id: study for study in old.studies}
    )
    unreadable: list[str] = []
    places: list[str] = []
    for folder in runs:
        source = read_store(folder)
        unreadable += as_lines(source.faults, folder)
        if not source.records and not source.faults:
            raise UsageError(f"{folder} holds no finished student; wait for its bench, or leave it out")
        named = {one.id: place_named_in(one) for one in source.records}
        named |= {one.id: place_named_in(one) for one in source.studies}
        places += [f"{which}: {place}" for which, place in named.items() if place]
        union.add(source.records, source.studies, "second" if replace else "neither")
    if unreadable:
        raise RefusedError("nothing was published; move these away, and run their bench again:", unreadable)
    if places:
        raise RefusedError("nothing was published; these contain local paths:", places)
    if union.conflicts:
        raise RefusedError("nothing was published; --replace takes the new results of these:", union.conflicts)
    new = Leaderboard(
        tuple(sorted(union.records.values(), key=lambda record: record.id)),
        tuple(sorted(union.studies.values(), key=lambda study: study.id)),
    )
    faults = content_faults(new.records, new.studies)
    return Published(union, write_published(to, old, new, redraw=redraw), tuple(faults))


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
        raise RefusedError(f"{folder} has faults; fix these, or give a new folder:", lines)
    return found


def write_published(folder: Path, old: Leaderboard, new: Leaderboard, *, redraw: bool = False) -> Written:
    """Bring a folder from what it holds to what it shall hold. Each file is replaced whole, the records first.

    Args:
        folder: where; made if it is not there.
        old: what was read from it.
        new: the records and studies that it shall hold, among them all of the old ones' ids.
        redraw: whether plots are drawn anew that show these records already.

    Raises:
        UsageError: it cannot be written.
    """
    before = {path_of_record(one): one.to_json() for one in old.records}
    before |= {path_of_study(one): one.to_json() for one in old.studies}
    texts = {path_of_record(one): one.to_json() for one in new.records}
    texts |= {path_of_study(one): one.to_json() for one in new.studies}
    records = {path: text.encode() for path, text in texts.items() if before.get(path) != text}
    there = set(old.others)

    def drawn(path: PurePosixPath, chart: Chart) -> bytes | None:
        content = _content(folder / path) if path in there and not redraw else None
        return content if content is not None and not drawing_fault(content, chart, path.suffix) else None

    files = generated_files(new, drawn)
    made = {path: content for path, content in files.items() if path not in there or _content(folder / path) != content}
    removed = sorted(there - files.keys())
    with _writing(folder):
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
        return read_bytes(path, MOST_PUBLISHED_BYTES)
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
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os_reason(error)
        raise UsageError(f"{folder} cannot be written: {reason}") from None


def as_lines(faults: Iterable[Fault], within: Path) -> list[str]:
    """Faults of a folder, each with the folder's name before it."""
    return [f"{within / one.file}: {one.reason}" for one in faults]


def merge_folders(first: Path, second: Path, to: Path | None = None, prefer: Prefer = "neither") -> Published:
    """Unite two collections. All is read and checked before anything is written.

    Args:
        first: a published folder, or a store of runs, which has a ``store.json``.
        second: likewise.
        to: a new or empty folder; None to add to the first one.
        prefer: whose result is kept of a cell whose two results contradict each other.

    Raises:
        UsageError: a folder is neither, or the result has no place.
        RefusedError: something cannot be read, contradicts, or together does not pass ``kdzoo check``.
    """
    target = first if to is None else to
    if to is None and is_store(first):
        raise UsageError(f"{first} is a store of runs, and nothing is merged into those; give a folder with --to")
    union = Union()
    unreadable: list[str] = []
    sides: tuple[tuple[Path, Prefer], ...] = ((first, "neither"), (second, prefer))
    for folder, preferred in sides:
        source = read_source(folder)
        unreadable += as_lines(source.faults, folder)
        if not source.records and not source.faults:
            raise UsageError(f"{folder} holds no finished student, so there is nothing of it to merge")
        union.add(source.records, source.studies, preferred)
    if unreadable:
        raise RefusedError("nothing was merged; these cannot be read:", unreadable)
    if union.conflicts:
        sentence = "nothing was merged; --prefer first or --prefer second decides these:"
        raise RefusedError(sentence, union.conflicts)
    old = open_target(target)
    if target.resolve() not in (first.resolve(), second.resolve()) and old != Leaderboard():
        raise UsageError(f"{target} holds records already; give a new or an empty folder")
    records = tuple(sorted(union.records.values(), key=lambda record: record.id))
    studies = tuple(sorted(union.studies.values(), key=lambda study: study.id))
    if faults := content_faults(records, studies):
        raise RefusedError("nothing was merged; together they would not pass `kdzoo check`:", map(str, faults))
    return Published(union, write_published(target, old, Leaderboard(records, studies)), ())
