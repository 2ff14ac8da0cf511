"""A board parses each record once, and is the same from what it kept of it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kdzoo.board import cache
from kdzoo.board.cache import FILE, Readings, read_results
from kdzoo.board.parsing import RecordParser
from kdzoo.board.table import make_board
from kdzoo.cli import app
from kdzoo.measures import hits
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
    whole = RecordParser.line

    def noted(self: RecordParser, cell_id: str, text: bytes, where: str, stamp: str) -> bytes:
        ids.append(cell_id)
        return whole(self, cell_id, text, where, stamp)

    monkeypatch.setattr(RecordParser, "line", noted)
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


def test_a_board_of_what_is_kept_is_that_of_their_records(store: Store) -> None:
    planned, studies = list(store.planned()), store.readable_studies()[0]
    direct = make_board(store.records(), planned, studies, by="dataset")
    for _ in range(2):
        read = read_results(store)
        assert read.problems == []
        kept = make_board(read.results, store.planned(read.ids), studies, by="dataset")
        assert kept.frame.equals(direct.frame)
        assert kept.groups == direct.groups
        assert kept.problems == direct.problems
        assert kept.remarks == direct.remarks


def test_new_changed_and_lost_records_are_seen(store: Store, parsed: list[str]) -> None:
    board(store)
    done = [record for record in store.records() if record.status == "done" and record.cell.kind == "student"]
    changed, lost = done[0], done[1]
    assert changed.test is not None
    better = changed.test | {"top1": 100 * (hits(changed.test) + 1) / changed.test["n"]}
    store.write_record(changed.model_copy(update={"test": better}))
    (store.folder(lost.id) / "record.json").unlink()
    parsed.clear()
    results = {one.result.id: one for one in read_results(store).results}
    assert parsed == [changed.id]
    assert lost.id not in results
    scores = results[changed.id].result.scores
    assert scores is not None
    assert scores["top1"] == better["top1"]
    store.write_record(lost)
    parsed.clear()
    assert lost.id in {one.result.id for one in read_results(store).results}
    assert parsed == [lost.id]


def test_an_unreadable_record_is_told_each_time(store: Store, parsed: list[str]) -> None:
    cell_id = store.records()[0].id
    (store.folder(cell_id) / "record.json").write_text("{}", encoding="utf-8")
    for _ in range(2):
        read = read_results(store)
        assert len(read.problems) == 1
        assert cell_id not in read.ids
    board(store, exit_code=1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: b"no lines",
        lambda text: b"[]",
        lambda text: text[:-30],
        lambda text: text.replace(b'"recipe', b'"recipf'),
        lambda text: text.replace(b"0", b"1", 500),
        lambda text: text + b"\n[]",
    ],
)
def test_a_damaged_file_is_made_anew(store: Store, damage: Callable[[bytes], bytes], parsed: list[str]) -> None:
    first = board(store)
    path = store.path / FILE
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    parsed.clear()
    assert board(store) == first
    assert parsed
    parsed.clear()
    assert board(store) == first
    assert parsed == []


def test_a_file_of_another_version_is_made_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
) -> None:
    first = board(store)
    for name in ("_FORM", "_OTHER"):
        monkeypatch.setattr(cache, "_FORM", name)
        parsed.clear()
        assert board(store) == first
        assert parsed


def test_the_file_holds_nothing_of_records_that_are_gone(store: Store) -> None:
    board(store)
    before = (store.path / FILE).read_text(encoding="utf-8")
    names = {record.cell.data.name for record in store.records()}
    assert len(names) > 1
    for record in store.records():
        if record.cell.data.name != "digits":
            shutil.rmtree(store.folder(record.id))
    board(store)
    after = (store.path / FILE).read_text(encoding="utf-8")
    for name in names:
        assert name in before
        assert (name in after) == (name == "digits")


def test_odd_files_are_told_and_the_rest_is_read(store: Store) -> None:
    first = board(store)
    number, copied = len(store.records()), store.records()[0].id
    (store.folder("0" * 16) / "record.json").mkdir(parents=True)
    shutil.copytree(store.folder(copied), store.cells / f"{copied}.bak")
    (store.folder("1" * 16)).mkdir()
    (store.folder("1" * 16) / "cell.json").write_text("{", encoding="utf-8")
    for _ in range(2):
        done = CliRunner().invoke(app, ["board", "--out", str(store.path), "--format", "csv"])
        assert done.exit_code == 1
        assert done.stdout == first
        told = done.stderr.splitlines()
        assert len(told) == 3
        assert "cell.json is damaged" in done.stderr
        assert f"{'0' * 16}/record.json: is no plain file but a folder; run the same bench again" in done.stderr
        assert f"{copied}.bak/record.json: the record of cell {copied}, which belongs into" in done.stderr
    assert len(read_results(store).ids) == number


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_record_that_may_not_be_read_is_told(store: Store) -> None:
    cell_id = store.records()[0].id
    (store.folder(cell_id) / "record.json").chmod(0)
    read = read_results(store)
    assert cell_id not in read.ids
    assert "permission denied" in read.problems[0]


def test_where_nothing_can_be_written_the_board_is_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    first = board(store)
    (store.path / FILE).unlink()
    monkeypatch.setattr(cache, "atomic_write", refuse)
    assert board(store) == first
    assert not (store.path / FILE).exists()


def test_several_processes_read_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.folder("0" * 16)).mkdir()
    (store.folder("0" * 16) / "record.json").write_text("{}", encoding="utf-8")
    alone = read_results(store)
    (store.path / FILE).unlink()
    heard = share_all(monkeypatch)
    together = read_results(store, processes=2)
    assert together == alone
    assert len(together.problems) == 1
    assert sum(len(one.lines) for one in heard) > 10


def share_all(monkeypatch: pytest.MonkeyPatch) -> list[Readings]:
    """Share few records too, and let the other process do all that it can; what it gave."""
    heard: list[Readings] = []
    started = cache._started

    @contextmanager
    def waited(*given: Any) -> Iterator[list[Future[Readings]]]:
        with started(*given) as futures:
            done, _ = wait(futures)
            heard.extend(one.result() for one in done if not one.exception())
            yield futures

    monkeypatch.setattr(cache, "_LEAST", 1)
    monkeypatch.setattr(cache, "_BATCH", 2)
    monkeypatch.setattr(cache, "_started", waited)
    return heard


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_with_a_batch(cells: Path, ids: list[str]) -> None:
    killed()


@pytest.mark.parametrize("when", ["at its start", "with its first batch"])
def test_records_are_read_though_other_processes_die(when: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read_results(store)
    (store.path / FILE).unlink()
    heard = share_all(monkeypatch)
    if when == "at its start":
        monkeypatch.setattr(cache, "_prepare_worker", killed)
    else:
        monkeypatch.setattr(cache, "_read_in_worker", killed_with_a_batch)
    assert read_results(store, processes=3) == alone
    assert heard == []


def test_two_processes_meet_in_the_middle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = read_results(store)
    (store.path / FILE).unlink()
    monkeypatch.setattr(cache, "_LEAST", 1)
    monkeypatch.setattr(cache, "_BATCH", 2)
    assert read_results(store, processes=2) == alone


def test_where_no_process_can_be_started_this_one_reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    alone = read_results(store)
    (store.path / FILE).unlink()
    monkeypatch.setattr(cache, "_LEAST", 1)
    monkeypatch.setattr(SpawnProcess, "start", refused)
    assert read_results(store, processes=2) == alone


def test_times_of_compiled_cells_are_not_compared(store: Store) -> None:
    records = store.records()
    timed = make_board(records).frame["time_vs_ce"].notna()
    assert timed.any()
    compiled = [
        one.model_copy(update={"environment": one.environment.model_copy(update={"compiled": True})}) for one in records
    ]
    frame = make_board(compiled).frame
    assert frame["time_vs_ce"].isna().all()
    assert set(frame["time_vs_ce_note"][timed]) == {"compiled"}


def test_a_store_without_cells_has_an_empty_board(store: Store) -> None:
    shutil.rmtree(store.cells)
    shutil.rmtree(store.studies)
    assert len(board(store).splitlines()) == 1
