"""A store is known by its marker, and without one by its cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kdzoo import UsageError
from kdzoo.cell import Cell
from kdzoo.record import Record
from kdzoo.store import Store
from kdzoo.storefiles import holds_cells, is_store


@pytest.fixture
def store(tmp_path: Path, cell: Cell) -> Store:
    store = Store.create(tmp_path / "runs")
    store.plan(cell)
    (store.path / "notes.txt").write_text("mine")
    return store


@pytest.mark.parametrize("left", [None, "", '{"sch', "\0" * 20, '{"schema":-1}', "a folder"])
def test_a_marker_that_is_gone_or_damaged_is_made_again(left: str | None, store: Store) -> None:
    marker = store.path / "store.json"
    whole = marker.read_bytes()
    marker.unlink()
    if left == "a folder":
        marker.mkdir()
    elif left is not None:
        marker.write_text(left)
    assert is_store(store.path)
    assert len(list(Store.open(store.path).planned())) == 1  # reading writes nothing
    assert marker.exists() == (left is not None)
    said: list[str] = []
    Store.create(store.path, said.append)
    assert marker.read_bytes() == whole
    (line,) = said
    assert f"store.json was {'gone' if left is None else 'damaged'} and is recreated" in line
    assert (store.path / "store.json.damaged-1").exists() == (left is not None)
    Store.create(store.path, said.append)
    assert len(said) == 1


def test_a_record_alone_says_it_too(store: Store, cell: Cell, make_record: Callable[..., Record]) -> None:
    store.write_record(make_record())
    for name in ("store.json", f"cells/{cell.id}/cell.json"):
        (store.path / name).unlink()
    assert holds_cells(store.path)


def test_other_folders_are_no_stores(store: Store, cell: Cell) -> None:
    (store.path / "store.json").unlink()
    plan = store.folder(cell.id) / "cell.json"
    plan.rename(plan.with_name("plan.json"))
    assert not holds_cells(store.path)
    with pytest.raises(UsageError, match="is not a store of runs; `kdzoo bench --out"):
        Store.open(store.path)
    with pytest.raises(UsageError, match="holds other files; give an empty or a new folder"):
        Store.create(store.path)
    plan.with_name("plan.json").rename(plan)
    store.folder(cell.id).rename(store.cells / "0123456789abcdef")  # another cell's folder
    assert not holds_cells(store.path)


def test_a_newer_marker_stands_beside_whole_cells(store: Store) -> None:
    marker = store.path / "store.json"
    marker.write_text(json.dumps({"schema": 99}))
    for action in (Store.open, Store.create):
        with pytest.raises(UsageError, match="was written by a newer kdzoo"):
            action(store.path)
    assert json.loads(marker.read_text()) == {"schema": 99}
