"""The files of one view: blocks, checksums, and what is left after a cut."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from kdzoo.engine.bank.view_files import BlockWriter, ViewFile, ViewLayout

LAYOUT = ViewLayout(samples=10, shape=(3,), dtype="float32", block=4)
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def write(file: ViewFile, starts: range, size: int = 2) -> BlockWriter:
    writer = BlockWriter(file, LAYOUT)
    for start in starts:
        if writer.lacks(start):
            writer.put(start, memoryview(ROWS[start : start + size].tobytes()))
    return writer


def whole(folder: Path) -> ViewFile:
    file = ViewFile(folder, 3)
    write(file, range(0, 10, 2)).finish()
    return file


def values(file: ViewFile) -> np.ndarray:
    return file.map().view(np.float32).reshape(10, 3)


def test_a_finished_view_reads_as_it_was_written(tmp_path: Path) -> None:
    file = whole(tmp_path)
    assert file.layout() == LAYOUT
    assert file.faults() == []
    np.testing.assert_array_equal(values(file), ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["view-00003.bin", "view-00003.json"]


def test_an_unfinished_view_is_none_and_its_whole_blocks_are_taken_up(tmp_path: Path) -> None:
    file = ViewFile(tmp_path, 3)
    write(file, range(0, 6, 2)).close()  # one whole block of four, and half of the next
    assert file.layout() is None
    writer = BlockWriter(file, LAYOUT)
    assert [writer.lacks(sample) for sample in range(10)] == [False] * 4 + [True] * 6
    writer.close()
    write(file, range(0, 10, 2)).finish()
    np.testing.assert_array_equal(values(file), ROWS)


def test_a_view_cannot_be_finished_before_all_blocks_are_there(tmp_path: Path) -> None:
    writer = write(ViewFile(tmp_path, 3), range(0, 8, 2))
    with pytest.raises(ValueError, match="one checksum is needed for each block"):
        writer.finish()
    assert ViewFile(tmp_path, 3).layout() is None


def test_samples_out_of_order_are_refused(tmp_path: Path) -> None:
    writer = BlockWriter(ViewFile(tmp_path, 3), LAYOUT)
    with pytest.raises(ValueError, match="sample 2 does not follow"):
        writer.put(2, memoryview(ROWS[2:4].tobytes()))


@pytest.mark.parametrize("tail", ["1 77", "1", "1 77 8\n", "x y\n", "\n", "99 1\n"])
def test_a_journal_with_a_torn_end_loses_no_more_than_that(tail: str, tmp_path: Path) -> None:
    file = ViewFile(tmp_path, 3)
    write(file, range(0, 4, 2)).close()
    with file.journal.open("a") as journal:
        journal.write(tail)
    write(file, range(4, 10, 2)).finish()
    np.testing.assert_array_equal(values(file), ROWS)


def test_a_journal_that_lies_is_not_believed(tmp_path: Path) -> None:
    """A block may be noted whose bytes never reached the disk."""
    file = ViewFile(tmp_path, 3)
    write(file, range(0, 8, 2)).close()
    with file.data.open("r+b") as data:
        data.seek(5)
        data.write(b"\xff")
    writer = BlockWriter(file, LAYOUT)
    assert [writer.lacks(sample) for sample in (0, 4, 8)] == [True, False, True]
    writer.close()


@pytest.mark.parametrize(
    ("harm", "blocks"),
    [
        (lambda data: data[:-1], [2]),
        (lambda data: data[:40], [0, 1, 2]),
        (lambda data: data[:60] + b"\x99" + data[61:], [1]),
        (lambda data: b"", [0, 1, 2]),
    ],
)
def test_a_cut_or_damaged_block_is_found_and_written_again(harm: object, blocks: list[int], tmp_path: Path) -> None:
    file = whole(tmp_path)
    file.data.write_bytes(harm(file.data.read_bytes()))
    assert file.faults() == blocks
    file.reopen(blocks)
    assert file.layout() is None
    writer = BlockWriter(file, LAYOUT)
    assert [block for block in range(3) if writer.lacks(4 * block)] == blocks
    writer.close()
    write(file, range(0, 10, 2)).finish()
    assert file.faults() == []
    np.testing.assert_array_equal(values(file), ROWS)


def test_a_missing_array_is_a_fault(tmp_path: Path) -> None:
    file = whole(tmp_path)
    file.data.unlink()
    assert file.faults() == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"layout": {}, "sums": []}'])
def test_a_damaged_index_is_none(text: str, tmp_path: Path) -> None:
    file = whole(tmp_path)
    file.index.write_text(text)
    assert file.layout() is None
    write(file, range(0, 10, 2)).finish()
    np.testing.assert_array_equal(values(file), ROWS)


@pytest.mark.parametrize("name", ["data", "index", "journal"])
@pytest.mark.parametrize("what", ["folder", "loop of links", "pipe", "device"])
def test_what_stands_in_the_place_of_a_file_is_no_view(name: str, what: str, tmp_path: Path) -> None:
    file = whole(tmp_path)
    path: Path = getattr(file, name)
    path.unlink(missing_ok=True)
    match what:
        case "folder":
            path.mkdir()
            (path / "mine").touch()
        case "loop of links":
            path.symlink_to(path.name)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
    if name != "journal":
        assert file.layout() is None or file.faults() == [0, 1, 2]
    file.reopen(file.faults())
    write(file, range(0, 10, 2)).finish()
    assert file.faults() == []
    np.testing.assert_array_equal(values(file), ROWS)


@pytest.mark.parametrize("other", ["view", "entry"])
def test_files_of_another_view_are_not_believed(other: str, tmp_path: Path) -> None:
    """They are whole, and of the same layout."""
    first = whole(tmp_path)
    second = ViewFile(tmp_path, 4) if other == "view" else ViewFile(tmp_path.with_name("other"), 3)
    second.index.parent.mkdir(exist_ok=True)
    shutil.copy(first.index, second.index)
    shutil.copy(first.data, second.data)
    assert first.layout() == LAYOUT
    assert second.layout() is None


def test_an_index_of_an_older_kdzoo_has_no_name(tmp_path: Path) -> None:
    file = whole(tmp_path)
    index = json.loads(file.index.read_bytes())
    assert index.pop("name") == f"{tmp_path.name}/view-00003"
    file.index.write_text(json.dumps(index))
    assert file.layout() == LAYOUT


def test_an_index_with_too_few_checksums_is_none(tmp_path: Path) -> None:
    file = whole(tmp_path)
    index = json.loads(file.index.read_bytes())
    file.index.write_text(json.dumps(index | {"sums": index["sums"][:2]}))
    assert file.layout() is None


def test_another_layout_begins_again(tmp_path: Path) -> None:
    file = ViewFile(tmp_path, 3)
    write(file, range(0, 8, 2)).close()
    writer = BlockWriter(file, LAYOUT.model_copy(update={"dtype": "float16"}))
    assert all(writer.lacks(sample) for sample in range(10))
    writer.close()


def test_who_has_mapped_a_view_keeps_what_it_sees(tmp_path: Path) -> None:
    file = whole(tmp_path)
    seen = values(file)
    seen[0, 0] = 77  # stays in this process
    file.remove()
    assert seen[9, 2] == 29
    assert ROWS[0, 0] == 0
