"""A board says of a teacher that it was vouched for, in every format, also from what is kept of the records."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from kdzoo.board.cache import FILE, read_results
from kdzoo.board.render import board_text
from kdzoo.files import atomic_write
from kdzoo.record import Record
from kdzoo.store import Store

SWEEP = Path(__file__).parent / "sweep" / "store"
HEADING = "not above chance, accepted by --trust-teacher"
REMARK = "resnet18 -> resnet10t: the teacher is not above chance on test, and was accepted by --trust-teacher"


def vouching(record: Record) -> Record:
    """The record, where the first of two teachers was vouched for."""
    if record.teacher is None or record.cell.teacher is None or record.cell.teacher.model.name != "resnet18":
        return record
    return record.model_copy(update={"teacher": record.teacher.model_copy(update={"vouched": True})})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(Path(shutil.copytree(SWEEP, tmp_path / "runs")))
    for record in store.records():
        atomic_write(store.folder(record.id) / "record.json", vouching(record).to_json().encode())
    return store


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("format", ["table", "md", "latex"])
def test_a_printed_board_says_it_beside_the_teacher_and_in_the_notes(format: str, store: Store) -> None:
    text = words(board_text(store.records(), format=format))
    plain = text.replace("$\\rightarrow$", "->").replace("\\_", "_").replace("{-}{-}", "--")
    # Two tables have that teacher, and those of the others say nothing.
    assert plain.count(HEADING) == 2
    assert REMARK in plain


def test_data_say_it_of_each_row(store: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(board_text(store.records(), format="csv"))))
    assert {(row["teacher"].partition(":")[0], row["teacher_weights"]) for row in rows} == {
        ("resnet18", "trained, vouched for"),
        ("vit_tiny_patch16_224", "trained"),
        ("mixer_s32_224", "trained"),
    }
    found = json.loads(board_text(store.records(), format="json"))
    assert REMARK in found["notes"]


def test_a_table_of_several_teachers_says_it_in_their_column(store: Store) -> None:
    text = words(board_text(store.records(), format="md", by="dataset"))
    assert "resnet18 11.2M 98.50% (vouched for) |" in text
    assert "96.25% (vouched for)" not in text


def test_what_is_kept_of_records_says_it_too(store: Store) -> None:
    whole = board_text(store.records(), format="json")
    for _ in range(2):  # parsed, then from the file
        assert board_text(read_results(store).results, format="json") == whole
    assert (store.path / FILE).exists()


def test_a_board_without_such_teachers_is_as_before() -> None:
    assert "vouched" not in board_text(Store.open(SWEEP).records(), format="json")
