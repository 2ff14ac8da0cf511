"""The fingerprint of image files follows what is in them, and each is read once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kdzoo.data import contents
from kdzoo.data.contents import file_digests
from kdzoo.data.factory import TimmDataset
from kdzoo.data.folder import FolderDataset
from kdzoo.files import cache_folder

NAMES = ["a/0.png", "a/1.png", "b/0.png"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of one size, which count as settled at once, and a cache folder of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "SETTLED_NS", 0)
    root = tmp_path / "files"
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes([number]) * 100)
    return root


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    plain = contents._digest

    def noted(root: Path, name: str) -> bytes:
        names.append(name)
        return plain(root, name)

    monkeypatch.setattr(contents, "_digest", noted)
    return names


def expected(root: Path) -> list[bytes]:
    return [hashlib.sha256((root / name).read_bytes()).digest()[:16] for name in NAMES]


def rows(digests: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in digests]


def test_files_are_read_once(files: Path, read: list[str]) -> None:
    assert rows(file_digests(files, NAMES)) == expected(files)
    assert sorted(read) == NAMES
    read.clear()
    assert rows(file_digests(files, NAMES[::-1])) == expected(files)[::-1]
    assert read == []


def test_splits_of_one_folder_keep_each_others_hashes(files: Path, read: list[str]) -> None:
    """As train and val of torchvision's ImageNet."""
    for _ in range(3):
        file_digests(files, NAMES[:1])
        file_digests(files, NAMES[1:])
    assert sorted(read) == NAMES


def test_hashes_of_files_that_are_gone_are_not_kept_for_ever(files: Path) -> None:
    for number in range(20):
        (files / NAMES[0]).write_bytes(bytes([number]) * 100)
        file_digests(files, NAMES[:1])
    (kept,) = cache_folder().glob("*.hashes")
    assert kept.stat().st_size < 1000


def test_only_what_changed_is_read_again(files: Path, read: list[str]) -> None:
    file_digests(files, NAMES)
    read.clear()
    path = files / NAMES[1]
    before = path.stat()
    path.write_bytes(b"x" * 100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert rows(file_digests(files, NAMES)) == expected(files)
    assert read == [NAMES[1]]


def test_files_that_are_exchanged_are_read_again(files: Path, read: list[str]) -> None:
    first = rows(file_digests(files, NAMES))
    one, other = files / NAMES[0], files / NAMES[2]
    one.rename(files / "x")
    other.rename(one)
    (files / "x").rename(other)
    assert rows(file_digests(files, NAMES)) == [first[2], first[1], first[0]]


def test_a_file_that_may_still_change_is_not_kept(
    files: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SETTLED_NS", 3600 * 10**9)
    file_digests(files, NAMES)
    read.clear()
    file_digests(files, NAMES)
    assert sorted(read) == NAMES


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "folder"])
def test_a_damaged_cache_costs_time_only(files: Path, read: list[str], damage: str) -> None:
    file_digests(files, NAMES)
    read.clear()
    (path,) = cache_folder().iterdir()
    content = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
        path.write_bytes({"cut": content[:-5], "flipped": flipped, "empty": b"", "text": b"nothing"}[damage])
    assert rows(file_digests(files, NAMES)) == expected(files)
    assert sorted(read) == NAMES


@pytest.mark.parametrize("place", ["file", "relative", "homeless"])
def test_a_cache_that_cannot_be_written_costs_time_only(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "taken").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", {"file": str(tmp_path / "taken"), "relative": "here"}.get(place, ""))

    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    monkeypatch.chdir(tmp_path)
    assert rows(file_digests(files, NAMES)) == expected(files)
    assert not (tmp_path / "here").exists()


def test_many_at_a_time_agree(files: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: rows(file_digests(files, NAMES)), range(24)))
    assert made == [expected(files)] * 24
    assert len(list(cache_folder().iterdir())) == 1


def test_the_sets_that_were_not_used_for_longest_are_dropped(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = None
    for number in range(4):
        root = tmp_path / f"set{number}"
        (root / "a").mkdir(parents=True)
        (root / NAMES[0]).write_bytes(b"x")
        before = set(cache_folder().glob("*")) if size else set()
        file_digests(root, NAMES[:1])
        (made,) = set(cache_folder().glob("*.hashes")) - before
        size = made.stat().st_size
        os.utime(made, (number, number))
        if number == 2:  # the first is used again
            file_digests(tmp_path / "set0", NAMES[:1])
            monkeypatch.setattr(contents, "MOST_DECODED", 2 * size)
    assert len(list(cache_folder().glob("*"))) == 2
    read: list[str] = []
    monkeypatch.setattr(contents, "_digest", lambda root, name: (read.append(root.name), bytes(16))[1])
    for number in (0, 3, 1, 2):
        file_digests(tmp_path / f"set{number}", NAMES[:1])
    assert read == ["set1", "set2"]


def test_long_reads_are_announced(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "SAID_ABOVE", 299)
    file_digests(files, NAMES)
    assert f"reading 3 files in {files} (0.0 GB) for the fingerprint" in capsys.readouterr().err
    file_digests(files, NAMES)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["folder", "torch"])
def test_exchanged_contents_are_another_dataset(write_folder: Callable[..., None], tmp_path: Path, kind: str) -> None:
    """Equal sizes and times, as of images in a format without compression."""
    write_folder(tmp_path / "pets", {"train": 3, "val": 1})

    def fingerprint() -> str:
        if kind == "torch":
            return TimmDataset("torch/image_folder").load(tmp_path / "pets", False).fingerprint
        return FolderDataset(str(tmp_path / "pets")).load(None, False).fingerprint

    one, other = (tmp_path / "pets/train" / name for name in ("cat/0.png", "dog/0.png"))
    pad = max(one.stat().st_size, other.stat().st_size)
    for path in (one, other):
        path.write_bytes(path.read_bytes().ljust(pad, b"\0"))
        os.utime(path, ns=(10**18, 10**18))
    first = fingerprint()
    contents_of = one.read_bytes(), other.read_bytes()
    for path, content in zip((other, one), contents_of, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
    assert fingerprint() != first
    for path, content in zip((one, other), contents_of, strict=True):
        path.write_bytes(content)
    assert fingerprint() == first
