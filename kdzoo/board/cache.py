"""The entries of a store. Only new records are parsed: a file of SQLite keeps what was read of the others.

It holds nothing that the records do not, and may be deleted at any time. Where it cannot be used, every record is
parsed, which gives the same board and takes longer.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from kdzoo.board.entries import Entries, Entry, Parts
from kdzoo.board.identity import Context, Setting
from kdzoo.board.results import Result, Scores, Teacher, Timing
from kdzoo.cell import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.errors import KdzooError
from kdzoo.files import replacing
from kdzoo.recipe import Recipe
from kdzoo.record import EVALUATION, SCHEMA
from kdzoo.store import Store

_FORM = f"2; record {SCHEMA}; evaluation {EVALUATION}"
"""Raise its first number when parts, entries or results get another form."""

_TABLES = """
CREATE TABLE form (text TEXT);
CREATE TABLE part (text TEXT PRIMARY KEY, number INTEGER);
CREATE TABLE line (
    id TEXT PRIMARY KEY, stamp TEXT,
    context INTEGER, student INTEGER, teacher INTEGER, setting INTEGER, seed INTEGER, evaluation INTEGER, result TEXT
);
"""


FILE = "board.sqlite"


class _Line(NamedTuple):
    """What is kept of a record; parts by their numbers. One without a context is no entry of a board."""

    id: str
    stamp: str
    context: int | None = None
    student: int | None = None
    teacher: int | None = None
    setting: int | None = None
    seed: int = 0
    evaluation: int = 0
    result: str = ""


def read_entries(store: Store, problems: list[str], read: set[str]) -> Iterator[Entry]:
    """The entries of all records of a store that can be read, in the order of their ids.

    Args:
        store: an open store.
        problems: gets a sentence for each record that cannot be read.
        read: gets the id of each record that was read.
    """
    path = store.path / FILE
    cache, entries = _load(path), Entries()
    lines = []
    for cell_id, stamp in sorted(_stamps(store.cells).items()):
        line = cache.find(cell_id, stamp)
        if line is not None:
            entry = cache.entry(line)
        else:
            try:
                entry = entries.entry(store.record(cell_id))
            except KdzooError as error:
                problems.append(str(error))
                continue
            line = cache.line(cell_id, stamp, entry)
        lines.append(line)
        read.add(cell_id)
        if entry is not None:
            yield entry
    if list(cache.lines.values()) != lines:
        _save(path, cache, lines)


def _stamps(cells: Path) -> dict[str, str]:
    """By the cell's id, what changes whenever its record is written."""
    stamps = {}
    with os.scandir(cells) as folders:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = Path(folder.path, "record.json").stat()
                stamps[folder.name] = f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"
    return stamps


class _Cache:
    """Lines by the cell's id, and the parts that they number."""

    def __init__(self, lines: dict[str, _Line], numbers: dict[str, int]) -> None:
        self.lines, self.numbers = lines, numbers
        self._texts = {number: text for text, number in numbers.items()}
        self._made: dict[tuple[Any, ...], Parts] = {}
        self._things: dict[tuple[type, int], Any] = {}

    def find(self, cell_id: str, stamp: str) -> _Line | None:
        """The line of a record whose file is as it was."""
        line = self.lines.get(cell_id)
        return line if line is not None and line.stamp == stamp else None

    def entry(self, line: _Line) -> Entry | None:
        """The entry that a line keeps. Entries of one row share their parts."""
        if line.context is None or line.student is None or line.setting is None:
            return None
        key = line[2:6]
        if key not in self._made:
            teacher = None if line.teacher is None else self._thing(TeacherRef, line.teacher)
            self._made[key] = Parts(
                self._thing(Context, line.context), self._thing(ModelRef, line.student), teacher,
                self._thing(Setting, line.setting),
            )  # fmt: skip
        return Entry(self._made[key], line.seed, line.evaluation, _result(line.id, json.loads(line.result)))

    def line(self, cell_id: str, stamp: str, entry: Entry | None) -> _Line:
        """What to keep of a record."""
        if entry is None:
            return _Line(cell_id, stamp)
        parts = entry.parts
        context, setting = parts.context, parts.setting
        return _Line(
            cell_id,
            stamp,
            self._number(context.data, context.recipe, context.init, context.protocol),
            self._number(parts.student),
            None if parts.teacher is None else self._number(parts.teacher),
            self._number(setting.strategy, setting.changes),
            entry.seed,
            entry.evaluation,
            json.dumps(_values(entry.result)),
        )

    def _number(self, *values: Any) -> int:
        # Pydantic writes its models many times faster than a dump that json writes.
        texts = [one.model_dump_json() if isinstance(one, BaseModel) else json.dumps(one) for one in values]
        text = texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"
        return self.numbers.setdefault(text, len(self.numbers))

    def _thing(self, kind: type, number: int) -> Any:
        if (kind, number) not in self._things:
            self._things[kind, number] = _part(kind, json.loads(self._texts[number]))
        return self._things[kind, number]


def _part(kind: type, value: Any) -> Any:
    if kind is Context:
        data, recipe, init, protocol = value
        return Context(_load_model(DataRef, data), _load_model(Recipe, recipe), init, protocol)
    if kind is Setting:
        return Setting(_load_model(StrategyRef, value[0]), value[1])
    return _load_model(kind, value)


def _load_model(kind: Any, value: Any) -> Any:
    return kind.model_validate_json(json.dumps(value))


def _values(result: Result) -> list[Any]:
    scores, timing = (
        part and [getattr(part, name) for name in part.__slots__] for part in (result.scores, result.timing)
    )
    return [result.ended, result.family, result.teacher, scores, timing, result.reason]


def _result(cell_id: str, values: list[Any]) -> Result:
    ended, family, teacher, scores, timing, reason = values
    return Result(
        cell_id,
        ended,
        family,
        teacher and Teacher(*teacher),
        scores and Scores(*scores),
        timing and Timing(timing[0], timing[1], timing[2], tuple(timing[3])),
        reason,
    )


def _load(path: Path) -> _Cache:
    """What the file keeps; nothing, where there is none, or it cannot be read."""
    if not path.exists():
        return _Cache({}, {})
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if connection.execute("SELECT text FROM form").fetchall() != [(_FORM,)]:
                return _Cache({}, {})
            numbers = dict(connection.execute("SELECT text, number FROM part"))
            lines = {row[0]: _Line(*row) for row in connection.execute("SELECT * FROM line")}
    except sqlite3.Error:
        return _Cache({}, {})
    return _Cache(lines, numbers)


def _save(path: Path, cache: _Cache, lines: Iterable[_Line]) -> None:
    """Keep the lines for the next board. The file is replaced whole, so that boards may run at once."""
    with (
        contextlib.suppress(OSError, sqlite3.Error),  # a store that cannot be written has its board all the same
        replacing(path) as partial,
        contextlib.closing(sqlite3.connect(partial)) as connection,
        connection,
    ):
        connection.executescript(f"PRAGMA journal_mode = OFF; {_TABLES}")
        connection.execute("INSERT INTO form VALUES (?)", (_FORM,))
        connection.executemany("INSERT INTO part VALUES (?, ?)", cache.numbers.items())
        connection.executemany("INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", lines)
