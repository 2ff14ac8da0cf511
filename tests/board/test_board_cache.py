"""A board parses each record once, and is the same from what it kept of it."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdzoo.board import cache, reading
from kdzoo.board.cache import FILE, read_entries
from kdzoo.board.kept import Keeper
from kdzoo.board.table import make_board
from kdzoo.cli import app
from kdzoo.store import Store

SWEEP = Path(__file__).parent / "sweep" / "store"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of a store with failed, missing and tuned cells."""
    return Store.open(Path(shutil.copytree(SWEEP, tmp_path / "runs")))


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the records that are parsed."""
    ids: list[str] = []
    whole = Keeper.line

    def noted(self: Keeper, text: bytes, where: str, stamp: str) -> bytes:
        ids.append(Path(where).parent.name)
        return whole(self, text, where, stamp)

    monkeypatch.setattr(Keeper, "line", noted)
    return ids


def board(store: Store, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, ["board", "--out", str(store.path), "--format", "csv"])
    assert done.exit_code == exit_code, done.output
    return done.stdout


def test_each_record_is_parsed_once(store: Store, parsed: list[str]) -> None:
    ids = {record.id for record in store.records()}
    parsed.clear()
    first = board(store)
    assert set(parsed) == ids
    parsed.clear()
    assert board(store) == first
    assert parsed == []
    assert len(first.splitlines()) > 10


def test_a_board_of_entries_is_that_of_their_records(store: Store) -> None:
    planned, studies = list(store.planned()), store.readable_studies()[0]
    direct = make_board(store.records(), planned, studies, by="dataset")
    for _ in range(2):
        read = read_entries(store)
        assert read.problems == []
        kept = make_board(read.entries, store.planned(read.ids), studies, by="dataset")
        assert kept.frame.equals(direct.frame)
        assert kept.groups == direct.groups
        assert kept.problems == direct.problems
        assert kept.remarks == direct.remarks


def test_new_changed_and_lost_records_are_seen(store: Store, parsed: list[str]) -> None:
    board(store)
    done = [record for record in store.records() if record.status == "done" and record.cell.kind == "student"]
    changed, lost = done[0], done[1]
    assert changed.test is not None
    better = changed.test.model_copy(update={"correct1": changed.test.correct1 + 1})
    store.write_record(changed.model_copy(update={"test": better}))
    (store.folder(lost.id) / "record.json").unlink()
    parsed.clear()
    entries = {entry.result.id: entry for entry in read_entries(store).entries}
    assert parsed == [changed.id]
    assert lost.id not in entries
    scores = entries[changed.id].result.scores
    assert scores is not None
    assert scores.top1 == better.top1
    store.write_record(lost)
    parsed.clear()
    assert lost.id in {entry.result.id for entry in read_entries(store).entries}
    assert parsed == [lost.id]


def test_an_unreadable_record_is_told_each_time(store: Store, parsed: list[str]) -> None:
    cell_id = store.records()[0].id
    (store.folder(cell_id) / "record.json").write_text("{}", encoding="utf-8")
    for _ in range(2):
        read = read_entries(store)
        assert len(read.problems) == 1
        assert cell_id not in read.ids
    board(store, exit_code=1)


@pytest.mark.parametrize("content", [b"", b"no database", None])
def test_a_damaged_file_is_made_anew(store: Store, content: bytes | None, parsed: list[str]) -> None:
    first = board(store)
    path = store.path / FILE
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    assert board(store) == first
    parsed.clear()
    assert board(store) == first
    assert parsed == []


def test_a_file_of_another_form_is_made_anew(store: Store, parsed: list[str]) -> None:
    first = board(store)
    path = store.path / FILE
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    told = json.loads(head)
    assert told["form"][0].isdigit()
    path.write_text("\n".join([json.dumps(told | {"form": "0"}), *lines[1:]]), encoding="utf-8")
    parsed.clear()
    assert board(store) == first
    assert parsed


def test_where_nothing_can_be_written_the_board_is_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    first = board(store)
    (store.path / FILE).unlink()
    monkeypatch.setattr(cache, "atomic_write", refuse)
    assert board(store) == first
    assert not (store.path / FILE).exists()


def test_several_processes_read_the_same(store: Store, monkeypatch: pytest.MonkeyPatch, parsed: list[str]) -> None:
    (store.folder("0" * 16)).mkdir()
    (store.folder("0" * 16) / "record.json").write_text("{}", encoding="utf-8")
    alone = read_entries(store)
    assert parsed
    (store.path / FILE).unlink()
    parsed.clear()
    monkeypatch.setattr(reading, "_LEAST", 7)
    together = read_entries(store, processes=2)
    assert len(parsed) < len(alone.ids)  # the other process read what is not in the list
    assert together == alone
    assert len(together.problems) == 1


def test_records_are_read_though_the_processes_die(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        """One that ends with its first batch."""

        def __enter__(self) -> Dying:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, read: Any, batch: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_running_or_notify_cancel()
            if self.alive:
                future.set_result(read(batch))
            else:
                future.set_exception(BrokenProcessPool())
            self.alive = False
            return future

        alive = True

    alone = read_entries(store)
    (store.path / FILE).unlink()
    monkeypatch.setattr(reading, "_LEAST", 7)
    monkeypatch.setattr(reading, "_pool", lambda processes: Dying())
    assert read_entries(store, processes=2) == alone
