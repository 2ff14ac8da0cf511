"""Checkpoints: whole or absent, and the one before a damaged one is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdzoo import store
from kdzoo.engine.checkpoint import Checkpoints

CPU = torch.device("cpu")


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Three epochs were saved."""
    checkpoints = Checkpoints(tmp_path)
    for epochs in (1, 2, 3):
        checkpoints.save(epochs, {"epochs": epochs, "weights": torch.arange(100) * epochs})
    return checkpoints


def _names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_only_the_last_two_are_kept_and_the_newest_is_loaded(kept: Checkpoints) -> None:
    assert _names(kept) == ["checkpoint-000002", "checkpoint-000003"]
    state = kept.load(CPU)
    assert state is not None
    assert state["epochs"] == 3
    assert torch.equal(state["weights"], torch.arange(100) * 3)


def test_nothing_kept_is_nothing_loaded(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).load(CPU) is None
    assert Checkpoints(tmp_path / "missing").load(CPU) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:40],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:3] + bytes([content[3] ^ 1]) + content[4:],
        lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],
        lambda content: content[:200] + bytes([content[200] ^ 0x80]) + content[201:],
        lambda content: b"\0" * len(content),
    ],
    ids=["empty", "in the magic", "head only", "half", "last byte gone", "longer", "magic", "hash", "a bit", "zeros"],
)
def test_the_one_before_a_damaged_one_is_used(
    kept: Checkpoints, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    newest = kept.folder / "checkpoint-000003"
    newest.write_bytes(damage(newest.read_bytes()))
    state = kept.load(CPU)
    assert state is not None
    assert state["epochs"] == 2
    assert "checkpoint-000003 is damaged" in caplog.text
    assert _names(kept) == ["checkpoint-000002"]


@pytest.mark.parametrize("what", ["folder", "loop of links", "link to nothing", "pipe", "device"])
def test_what_stands_in_the_place_of_a_checkpoint_is_passed_over(what: str, kept: Checkpoints) -> None:
    newest = kept.folder / "checkpoint-000003"
    newest.unlink()
    match what:
        case "folder":
            newest.mkdir()
        case "loop of links":
            newest.symlink_to(newest.name)
        case "link to nothing":
            newest.symlink_to("nothing")
        case "pipe":
            os.mkfifo(newest)
        case "device":
            newest.symlink_to("/dev/zero")
    state = kept.load(CPU)
    assert state is not None
    assert state["epochs"] == 2
    aside = ["checkpoint-000003.damaged-1"] if what == "folder" else []
    assert _names(kept) == ["checkpoint-000002", *aside]
    for epochs in (3, 4):
        kept.save(epochs, {"epochs": epochs})
    assert _names(kept) == ["checkpoint-000003", *aside, "checkpoint-000004"]


def test_all_damaged_means_from_the_start(kept: Checkpoints) -> None:
    for path in kept.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    assert kept.load(CPU) is None
    assert _names(kept) == []


def test_a_half_written_file_of_a_killed_process_does_not_count(kept: Checkpoints) -> None:
    whole = (kept.folder / "checkpoint-000003").read_bytes()
    (kept.folder / ".checkpoint-000004.123.abcdef01").write_bytes(whole[:300])
    state = kept.load(CPU)
    assert state is not None
    assert state["epochs"] == 3


def test_a_failed_write_leaves_the_old_ones_and_no_trace(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in kept.folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(4, {"epochs": 4})
    assert {path.name: path.read_bytes() for path in kept.folder.iterdir()} == before


def test_the_file_is_flushed_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(store.os, "fsync", lambda descriptor: (calls.append("flush"), fsync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda own, target: (calls.append("rename"), replace(own, target))[1])
    Checkpoints(tmp_path).save(1, {"epochs": 1})
    assert calls == ["flush", "rename", "flush"]  # the last one is the folder's


def test_nothing_but_data_is_unpickled(kept: Checkpoints) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    kept.save(4, {"epochs": Harm()})
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        kept.load(CPU)
