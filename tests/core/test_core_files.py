"""Files are read only where they are plain and small enough, and what is in the way is set aside."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kdzoo import UsageError
from kdzoo.config import load_bench
from kdzoo.errors import OddFileError
from kdzoo.files import MOST_TEXT, atomic_write, check_plain, discard, make_folder, read_plain, set_aside
from kdzoo.matrix import load_recipe
from kdzoo.plugins import load_plugins


def test_a_plain_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for content in (b"", b"a", bytes(range(256)) * 50):
        path.write_bytes(content)
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("f")
        assert read_plain(path, 12_800) == content
        assert read_plain(tmp_path / "link", 12_800) == content
    with pytest.raises(OddFileError, match="is a symbolic link, which is not followed"):
        read_plain(tmp_path / "link", 12_800, follow=False)


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_plain(path, 5) == b"12345"
    with pytest.raises(OddFileError, match="is larger than 4 bytes"):
        read_plain(path, 4)
    with path.open("wb") as file:
        file.truncate(2**40)  # a hole, of which no byte is on the disk
    with pytest.raises(OddFileError, match="is larger than 1,048,576 bytes"):
        read_plain(path, MOST_TEXT)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a Linux")
def test_a_system_that_gives_less_than_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux does beyond 2 GiB: the rest was taken for missing, and a large checkpoint for damaged."""
    (tmp_path / "a").write_bytes(bytes(range(250)))
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, count: read(descriptor, min(count, 7)))
    assert read_plain(tmp_path / "a", 250) == bytes(range(250))
    with pytest.raises(OddFileError, match="larger than 249 bytes"):
        read_plain(tmp_path / "a", 249)


def test_a_file_whose_size_is_not_told_is_read_whole() -> None:
    assert Path("/proc/self/status").stat().st_size == 0
    assert b"VmRSS" in read_plain("/proc/self/status", MOST_TEXT)
    with pytest.raises(OddFileError, match="is larger than 10 bytes"):
        read_plain("/proc/self/status", 10)


def _odd(kind: str, folder: Path) -> Path:
    path = folder / "odd.yaml"
    match kind:
        case "folder":
            path.mkdir()
        case "named pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "socket":
            here = Path.cwd()
            os.chdir(folder)  # the path of a socket may have some hundred characters only
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
            os.chdir(here)
    return path


@pytest.mark.parametrize("kind", ["folder", "named pipe", "device", "socket"])
def test_what_is_no_plain_file_is_not_read(kind: str, tmp_path: Path) -> None:
    path = _odd(kind, tmp_path)
    for read in (lambda: read_plain(path, 10), lambda: check_plain(path)):
        with pytest.raises(OddFileError, match=f"^is no plain file but a {kind}$"):
            read()


@pytest.mark.parametrize("kind", ["folder", "named pipe", "device", "socket"])
def test_a_recipe_a_bench_and_a_plugin_are_plain_files(kind: str, tmp_path: Path) -> None:
    path = _odd(kind, tmp_path)
    told = f"is no plain file but a {kind}; give a"
    with pytest.raises(UsageError, match=told):
        load_bench(str(path), {})
    with pytest.raises(UsageError, match=told):
        load_recipe(str(path), {})
    with pytest.raises(UsageError, match=told):
        load_plugins([path])


def test_missing_files_are_the_systems_own_errors(tmp_path: Path) -> None:
    for read in (lambda path: read_plain(path, 10), check_plain):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


def test_what_is_damaged_gets_the_next_free_name(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for number in (1, 2, 3):
        path.write_text(str(number))
        assert set_aside(path).name == f"record.json.damaged-{number}"
    assert [(tmp_path / f"record.json.damaged-{number}").read_text() for number in (1, 2, 3)] == ["1", "2", "3"]
    assert not path.exists()


def test_a_folder_in_the_place_of_a_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.mkdir()
    (path / "mine").write_text("mine")
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"
    assert (tmp_path / "f.damaged-1" / "mine").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_in_the_place_of_a_folder_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    make_folder(tmp_path / "f")
    make_folder(tmp_path / "f")
    assert (tmp_path / "f").is_dir()
    assert (tmp_path / "f.damaged-1").read_text() == "mine"


def test_folders_are_not_discarded(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").touch()
    for name in ("folder", "link", "file", "none"):
        discard(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
