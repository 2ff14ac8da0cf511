"""The folder of runs: what may be opened, and that nothing is ever half written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import start

from kdzoo import UsageError
from kdzoo.cell import Cell
from kdzoo.errors import DamagedError, NewerError
from kdzoo.files import atomic_write, replacing
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.storefiles import STORE_SCHEMA


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "runs")


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_new_store_has_its_marker(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "deep" / "runs")
    assert json.loads((store.path / "store.json").read_text()) == {"schema": STORE_SCHEMA}
    assert Store.open(store.path).records() == []
    assert list(Store.create(store.path).planned()) == []


def test_checking_writes_nothing(tmp_path: Path) -> None:
    Store.check(tmp_path / "deep" / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"--out .*file is a file; give a folder"):
        Store.create(tmp_path / "file")
    with pytest.raises(UsageError, match=r"--out .*file/runs cannot be made: .*file is a file"):
        Store.create(tmp_path / "file" / "runs")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_of_other_files_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds other files; give an empty or a new folder"):
        Store.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_hidden_files_do_not_make_a_folder_foreign(tmp_path: Path) -> None:
    (tmp_path / ".gitkeep").touch()
    assert list(Store.create(tmp_path).planned()) == []


@pytest.mark.parametrize("left", [("cells",), ("cells", "teachers"), (".store.json.123.abcdef01",), ()])
def test_a_store_that_was_cut_short_at_birth_is_taken_up(left: tuple[str, ...], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).mkdir()
    assert list(Store.create(tmp_path).planned()) == []
    assert (tmp_path / "store.json").is_file()


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(UsageError, match=r"--out .*runs cannot be written: permission denied"):
        Store.create(tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UsageError, match=r"--out .*runs cannot be written: the disk is full"):
        Store.create(tmp_path / "runs")
    assert not (tmp_path / "runs" / "store.json").exists()


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: file name too long"):
        Store.create(tmp_path / ("a" * 300))


def test_a_newer_store_is_refused_and_kept(store: Store) -> None:
    marker = store.path / "store.json"
    marker.write_text('{"schema":99,"colour":"red"}')
    for action in (Store.open, Store.check, Store.create):
        with pytest.raises(UsageError, match=r"was written by a newer kdzoo \(store schema 99.*upgrade kdzoo or give"):
            action(store.path)
    assert marker.read_text() == '{"schema":99,"colour":"red"}'


@pytest.mark.parametrize(
    "marker",
    [
        "", "{", "[]", "{}", '{"schema":"one"}', "\x00", '{"schema":1e999}', '{"schema":Infinity}', '{"schema":NaN}',
        '{"schema":true}', '{"schema":1.5}', '{"schema":-7}', '{"schema":' + "9" * 5000 + "}",
        '{"schema":' + "[" * 100_000, '{"schema":1' + " " * 5000 + "}",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_damaged_marker_is_told(marker: str, store: Store) -> None:
    (store.path / "store.json").write_text(marker)
    for action in (Store.open, Store.create):
        with pytest.raises(UsageError, match=r"store\.json is unreadable; a store's marker reads {\"schema\":1}"):
            action(store.path)


def test_only_a_store_is_opened_to_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a store of runs; `kdzoo bench --out .*` makes one"):
        Store.open(tmp_path)


def test_a_cells_state_goes_from_new_to_done(store: Store, cell: Cell, make_record: Callable[..., Record]) -> None:
    assert store.state(cell.id) == "new"
    store.plan(cell)
    assert store.state(cell.id) == "new"
    assert list(store.planned()) == [cell]
    assert store.find_record(cell.id) is None
    (store.folder(cell.id) / "checkpoint-00001.pt").touch()
    assert store.state(cell.id) == "started"
    failed = make_record(status="failed", reason="it fell", test=None)
    store.write_record(failed)
    assert store.state(cell.id) == "failed"
    assert store.find_record(cell.id) == failed
    store.write_record(make_record())
    assert store.state(cell.id) == "done"
    store.clear(cell.id)
    assert sorted(path.name for path in store.folder(cell.id).iterdir()) == ["cell.json", "record.json"]
    assert store.records() == [make_record()]


def test_planning_twice_writes_once(store: Store, cell: Cell) -> None:
    store.plan(cell)
    path = store.folder(cell.id) / "cell.json"
    before = path.stat().st_mtime_ns, path.stat().st_ino
    store.plan(cell)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]"])
def test_a_damaged_record_is_told_and_set_aside_by_who_holds_the_cell(damage: str, store: Store, cell: Cell) -> None:
    store.plan(cell)
    path = store.folder(cell.id) / "record.json"
    said: list[str] = []
    store.say = said.append
    for number in (1, 2):
        path.write_text(damage)
        with pytest.raises(DamagedError, match=rf"cells/{cell.id}/record\.json: "):
            store.record(cell.id)
        with pytest.raises(DamagedError, match=cell.id):
            store.records()
        assert store.state(cell.id) == "damaged"
        assert store.find_record(cell.id) is None
        assert path.exists()
        assert said == []
        assert store.claimed_record(cell.id) is None
        aside = f"record.json.damaged-{number}"
        assert (path.with_name(aside)).read_text() == damage
        assert not path.exists()
        assert said.pop().endswith(f"; it is now {aside}, and the cell is retrained")


def test_a_newer_record_is_named_and_left(store: Store, cell: Cell) -> None:
    store.plan(cell)
    path = store.folder(cell.id) / "record.json"
    path.write_text('{"record_schema":99}')
    for action in (store.state, store.record, store.find_record, store.claimed_record):
        with pytest.raises(NewerError, match=rf"cells/{cell.id}/record\.json: written by a newer kdzoo"):
            action(cell.id)
    assert sorted(each.name for each in path.parent.iterdir()) == ["cell.json", "record.json"]


def test_a_record_of_another_cell_is_damaged(store: Store, cell: Cell, make_record: Callable[..., Record]) -> None:
    store.plan(cell)
    other = cell.model_copy(update={"seed": 7})
    (store.folder(cell.id) / "record.json").write_text(make_record(other).to_json())
    assert store.state(cell.id) == "damaged"
    with pytest.raises(DamagedError, match=f"the record of cell {other.id}, which belongs into the folder"):
        store.record(cell.id)


@pytest.mark.parametrize("name", ["record.json", "cell.json", "checkpoint-000001", ".record.json.12.abc"])
@pytest.mark.parametrize("what", ["a folder", "a link to nothing", "a loop of links", "a pipe", "a device"])
def test_whatever_stands_in_the_place_of_a_file_harms_nothing(
    name: str, what: str, store: Store, cell: Cell, make_record: Callable[..., Record]
) -> None:
    folder = store.folder(cell.id)
    folder.mkdir()
    put(what, folder / name)
    store.state(cell.id)
    store.find_record(cell.id)
    list(store.planned(problems=[]))
    store.plan(cell)
    assert store.cell(cell.id) == cell
    assert store.claimed_record(cell.id) is None
    store.clear(cell.id, before_record=True)
    store.write_record(make_record())
    assert store.find_record(cell.id) == make_record()
    store.clear(cell.id)


def put(what: str, path: Path) -> None:
    match what:
        case "a folder":
            path.mkdir()
            (path / "mine").write_text("mine")
        case "a link to nothing":
            path.symlink_to("nowhere")
        case "a loop of links":
            path.symlink_to(path.name)
        case "a pipe":
            os.mkfifo(path)
        case "a device":
            path.symlink_to("/dev/zero")


@pytest.mark.parametrize("what", ["a folder", "a link to nothing", "a pipe", "a device"])
def test_what_stands_in_the_place_of_a_lock_or_of_the_events_is_told(what: str, store: Store) -> None:
    put(what, store.path / "events.jsonl")
    with pytest.raises(UsageError, match=r"events\.jsonl is in the place of a file of kdzoo; move it away"):
        store.log("start")
    (store.path / "locks").mkdir()
    put(what, store.path / "locks" / "key.lock")
    with (
        pytest.raises(UsageError, match=r"key\.lock is in the place of a file of kdzoo; move it away"),
        store.claim("key"),
    ):
        pass


def test_a_file_in_the_place_of_a_cells_folder_is_set_aside(store: Store, cell: Cell) -> None:
    store.folder(cell.id).write_text("mine")
    assert list(store.planned()) == []
    assert store.find_record(cell.id) is None
    store.plan(cell)
    assert list(store.planned()) == [cell]
    assert (store.cells / f"{cell.id}.damaged-1").read_text() == "mine"


def test_a_damaged_plan_is_told(store: Store, cell: Cell) -> None:
    store.plan(cell)
    (store.folder(cell.id) / "cell.json").write_text('{"kind":')
    with pytest.raises(UsageError, match=r"cell\.json is damaged"):
        list(store.planned())
    store.plan(cell)
    assert list(store.planned()) == [cell]
    assert (store.folder(cell.id) / "cell.json.damaged-1").read_text() == '{"kind":'


def test_a_plan_of_another_cell_is_damaged(store: Store, cell: Cell) -> None:
    other = cell.model_copy(update={"seed": 7})
    store.plan(other)
    store.plan(cell)
    shutil.copy(store.folder(other.id) / "cell.json", store.folder(cell.id) / "cell.json")
    problems: list[str] = []
    assert list(store.planned(problems=problems)) == [other]
    assert len(problems) == 1
    assert f"it is the plan of cell {other.id}" in problems[0]
    store.plan(cell)
    assert len(list(store.planned())) == 2


@pytest.mark.parametrize("write", ["plan", "write_record", "log"])
def test_a_disk_that_fills_later_is_told(
    write: str,
    store: Store,
    cell: Cell,
    make_record: Callable[..., Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.plan(cell.model_copy(update={"seed": 7}))
    record = make_record()
    actions = {
        "plan": lambda: store.plan(cell),
        "write_record": lambda: store.write_record(record),
        "log": lambda: store.log("start", cell=cell.id),
    }
    monkeypatch.setattr("kdzoo.store.atomic_write", full)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UsageError, match=r"--out .*runs cannot be written: the disk is full"):
        actions[write]()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    atomic_write(path, b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_a_write_that_is_interrupted_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    atomic_write(path, b"old")

    def interrupted() -> None:
        with replacing(path) as partial:
            partial.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_a_claim_keeps_others_out_until_it_ends(store: Store) -> None:
    with store.claim("cell") as mine:
        assert mine
        other = Store.open(store.path)
        with other.claim("another") as theirs:
            assert theirs
        with other.claim("cell") as theirs:
            assert not theirs
    with store.claim("cell") as mine:
        assert mine


def test_a_claim_ends_when_its_holder_is_killed(store: Store) -> None:
    code = (
        "import sys, time; from pathlib import Path; from kdzoo.store import Store\n"
        "with Store.open(Path(sys.argv[1])).claim('cell') as mine:\n"
        "    print(mine, flush=True); time.sleep(3600)\n"
    )
    holder = start(sys.executable, "-c", code, store.path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with store.claim("cell") as mine:
        assert not mine
    holder.kill()
    with store.claim("cell", wait=True) as mine:
        assert mine


def test_events_are_whole_lines(store: Store) -> None:
    store.log("start", cell="a")
    store.log("done", cell="a")
    lines = [json.loads(line) for line in (store.path / "events.jsonl").read_text().splitlines()]
    assert [(line["event"], line["cell"], line["pid"]) for line in lines] == [
        ("start", "a", os.getpid()),
        ("done", "a", os.getpid()),
    ]
