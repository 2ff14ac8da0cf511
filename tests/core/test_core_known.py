"""What earlier commands found out counts only while everything is as it was."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdzoo import known
from kdzoo.files import cache_folder
from kdzoo.known import Known, NotKnownError

QUESTION = ["colour", {"of": "grass"}]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and a folder of installed distributions and of code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "_began", 2**62)  # what other tests have written and imported counts as old
    site = tmp_path / "site"
    (site / "pack-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(site)
    return site


def note(answer: object = "green", question: object = QUESTION, files: tuple[Path, ...] = ()) -> None:
    cache = Known.open(files)
    cache.note(question, answer)
    cache.save()


def kept() -> list[Path]:
    return sorted(cache_folder().glob("*.known"))


def forgotten(files: tuple[Path, ...] = ()) -> bool:
    with pytest.raises(NotKnownError):
        Known.open(files).answer(QUESTION)
    return True


def import_package(site: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """Import a package from outside of an installation."""
    (site / name / "data").mkdir(parents=True)
    for file in ("__init__.py", "data/table.txt"):
        (site / name / file).write_text("")
    monkeypatch.setitem(sys.modules, name, None)  # behind the test it is gone
    del sys.modules[name]
    importlib.invalidate_caches()
    importlib.import_module(name)
    return site / name


def test_an_answer_is_there_for_the_next_command() -> None:
    assert forgotten()
    note({"name": "green", "share": 0.5, "of": [1, None]})
    assert Known.open().answer(QUESTION) == {"name": "green", "share": 0.5, "of": [1, None]}
    with pytest.raises(NotKnownError):
        Known.open().answer([*QUESTION, 1])


def test_a_mapping_keeps_its_order() -> None:
    note({"b": 1, "a": 2})
    assert list(Known.open().answer(QUESTION)) == ["b", "a"]


def test_an_answer_that_is_no_plain_value_is_not_kept() -> None:
    for answer in (float("nan"), object()):
        note(answer)
    assert kept() == []


def test_another_version_knows_nothing(place: Path) -> None:
    note()
    (place / "pack-1.0.dist-info").rename(place / "pack-1.1.dist-info")
    assert forgotten()


def test_a_distribution_that_was_installed_again_knows_nothing(place: Path) -> None:
    note()
    os.utime(place / "pack-1.0.dist-info", ns=(5, 5))
    assert forgotten()


def test_another_single_file_knows_nothing(tmp_path: Path) -> None:
    files = (tmp_path / "mine.py",)
    files[0].write_text("a = 1\n")
    note(files=files)
    assert Known.open(files).answer(QUESTION) == "green"
    assert forgotten()
    files[0].write_text("a = 2\n")
    assert forgotten(files)
    files[0].unlink()
    assert forgotten(files)


@pytest.mark.parametrize("file", ["__init__.py", "data/table.txt", "added.py"])
def test_a_changed_package_knows_nothing(file: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = import_package(place, monkeypatch, "kdzoo_known_changed")
    note()
    assert Known.open().answer(QUESTION) == "green"
    (package / file).write_text("a = 1\n")
    os.utime(package / "__init__.py", (1, 1))
    assert forgotten()


def test_a_package_that_is_gone_knows_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = import_package(place, monkeypatch, "kdzoo_known_gone")
    note()
    (package / "__init__.py").unlink()
    assert forgotten()


def test_code_that_changes_meanwhile_is_not_taken_for_what_was_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = import_package(place, monkeypatch, "kdzoo_known_meanwhile")
    monkeypatch.setattr(known, "_began", (package / "__init__.py").stat().st_mtime_ns)
    note()
    assert kept() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-10],
        lambda content: content.replace(b"green", b"brown"),
        lambda content: b"[1]\n",
        lambda content: b"\xff" * 100,
    ],
)
def test_a_damaged_file_knows_nothing_and_is_made_anew(damage: Callable[[bytes], bytes]) -> None:
    note()
    (path,) = kept()
    path.write_bytes(damage(path.read_bytes()))
    assert forgotten()
    note()
    assert Known.open().answer(QUESTION) == "green"


def test_a_folder_in_the_place_of_the_file_harms_nothing() -> None:
    note()
    (path,) = kept()
    path.unlink()
    path.mkdir()
    assert forgotten()
    note()


def test_two_processes_keep_what_both_found_out() -> None:
    one, other = Known.open(), Known.open()
    one.note("one", 1)
    other.note("other", 2)
    one.save()
    other.save()
    found = Known.open()
    assert (found.answer("one"), found.answer("other")) == (1, 2)


def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MOST_CACHE_FILES", 2)
    for number in range(4):
        file = tmp_path / f"{number}.py"
        file.write_text("")
        note(files=(file,))
        os.utime(max(kept(), key=lambda path: path.stat().st_mtime_ns), (number + 1, number + 1))
    assert len(kept()) == 2


def test_a_file_is_bounded_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    note("a" * 1000, "old")
    monkeypatch.setattr(known, "MOST_CACHED", kept()[0].stat().st_size + 50)
    note("b" * 1000, "new")
    assert Known.open().answer("new") == "b" * 1000
    with pytest.raises(NotKnownError):
        Known.open().answer("old")
    note("c" * 5000, "huge")
    assert Known.open().answer("new") == "b" * 1000


def test_too_much_code_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_MOST_CODE", 3)
    note()
    assert kept() == []
