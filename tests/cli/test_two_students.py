"""Two students at once: ``dml``."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from kdzoo.record import Record, parse_record
from kdzoo.store import Store

DIGITS = (
    *("--dataset", "digits[:120]", "--student", "test_resnet", "--teacher", "test_efficientnet"),
    *("--epochs", 3, "--teacher-epochs", 10, "--seeds", 1, "--device", "cpu", "--set", "recipe.batch_size=16"),
)
OTHER = ("--strategies", "dml", "--set", "dml.second=test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any]) -> tuple[Path, Any]:
    """A store after a bench of two students of one kind, and what it printed."""
    out = tmp_path_factory.mktemp("two") / "runs"
    result = kdzoo("bench", *DIGITS, "--strategies", "dml", "--out", out)
    assert result.code == 0, result.err
    return out, result


def row(out: Path, strategy: str = "dml") -> Record:
    read = [parse_record(path.read_bytes(), str(path)) for path in Store.open(out).cells.glob("*/record.json")]
    (found,) = [one for one in read if one.cell.strategy.name == strategy and one.cell.kind == "student"]
    assert found.status == "done", found.reason + found.traceback
    return found


def test_both_students_are_recorded_and_kept(ran: tuple[Path, Any]) -> None:
    out, _ = ran
    record = row(out)
    assert str(record.cell.peer) == "test_resnet"
    assert record.peer
    assert record.peer.test
    assert record.test
    assert record.peer.size == record.student
    assert record.test["peer_top1"] == record.peer.test["top1"]
    assert set(record.weights) == {"student.safetensors", "peer.safetensors"}
    assert record.record_schema == 7
    assert set(record.curve[0].terms) == {"ce", "mutual", "peer.ce", "peer.mutual"}
    for line in record.curve:
        assert line.terms["mutual"] >= 0
        assert line.terms["peer.mutual"] >= 0
    folder = out / "cells" / record.id
    own, other = (load_file(folder / name) for name in ("student.safetensors", "peer.safetensors"))
    assert own.keys() == other.keys()
    assert not any(torch.equal(own[name], other[name]) for name in own if name.endswith("conv1.weight"))
    assert row(out, "ce").peer is None
    assert "peer_top1" not in row(out, "ce").test


def test_the_teacher_does_not_teach_and_the_row_stands_with_its_pair(ran: tuple[Path, Any]) -> None:
    out, result = ran
    record, alone = row(out), row(out, "ce")
    assert record.teacher == alone.teacher
    assert record.cell.row_key(1).pair == alone.cell.row_key(1).pair
    assert record.cell.seed_for("init") == alone.cell.seed_for("init") != record.cell.seed_for("peer")
    assert record.environment.bank == ""
    assert "1/1" in result.out


@pytest.mark.exhaustive
def test_another_second_student_has_its_own_name_size_and_header(kdzoo: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    shown = kdzoo("bench", *DIGITS, *OTHER, "--dry-run")
    title = "dml test_efficientnet -> test_resnet with test_vit:depth=1:embed_dim=16:num_heads=1:patch_size=4 on digits"
    assert title in shown.out
    assert kdzoo("bench", *DIGITS, *OTHER, "--out", out).code == 0
    record = row(out)
    assert record.peer
    assert record.student
    assert record.peer.size.parameters < record.student.parameters
    with safe_open(out / "cells" / record.id / "peer.safetensors", framework="pt") as file:
        assert "test_vit" in str(file.metadata())


@pytest.mark.exhaustive
def test_a_run_that_was_cut_short_ends_as_an_uninterrupted_one(
    ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdzoo.engine.train import Training

    first = row(ran[0])
    out = tmp_path / "runs"
    whole = Training.train_epoch

    def stopped(self: Training, number: int, signals_of: Any) -> Any:
        if number == 2 and self.peer is not None:
            raise KeyboardInterrupt
        return whole(self, number, signals_of)

    monkeypatch.setattr(Training, "train_epoch", stopped)
    kdzoo("bench", *DIGITS, "--strategies", "dml", "--out", out)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert kdzoo("bench", *DIGITS, "--strategies", "dml", "--out", out).code == 0
    assert row(out).outcome() == first.outcome()
    assert row(out).weights == first.weights


@pytest.mark.exhaustive
def test_moving_averages_and_clipping_serve_both(kdzoo: Callable[..., Any], tmp_path: Path) -> None:
    flags = ("--set", "recipe.ema=0.9", "--set", "recipe.clip_grad=1", "--strategies", "dml")
    result = kdzoo("bench", *DIGITS, *flags, "--out", tmp_path / "runs")
    assert result.code == 0, result.err
    assert row(tmp_path / "runs").peer


@pytest.mark.exhaustive
def test_it_is_published_checked_and_trained_again(
    ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    out, boards = Path(shutil.copytree(ran[0], tmp_path / "runs")), tmp_path / "boards"
    assert kdzoo("publish", out, "--to", boards).code == 0
    checked = kdzoo("check", boards, "--remeasure", out)
    assert checked.code == 0, checked.out + checked.err
    (path,) = [one for one in boards.glob("records/*/*--*/*.json") if one.stem == row(out).id]
    again = kdzoo("run-cell", path, "--out", tmp_path / "again", "--device", "cpu")
    assert again.code == 0, again.err
    assert "The result equals the given record." in again.out
    header, *lines = (boards / "digits-120" / "board.csv").read_text().splitlines()
    assert ",peer_top1," in header
    assert len(lines) == 2


def test_students_from_timms_weights_and_unknown_networks_are_refused(kdzoo: Callable[..., Any]) -> None:
    unknown = kdzoo("bench", *DIGITS, "--strategies", "dml", "--set", "dml.second=no_such", "--dry-run")
    assert unknown.code == 2
    assert "no_such" in unknown.err
    joined = kdzoo("bench", *DIGITS, "--strategies", "dml+at", "--dry-run")
    assert joined.code == 2
    assert "dml+at: dml trains networks beside the student, and is run alone" in joined.err
