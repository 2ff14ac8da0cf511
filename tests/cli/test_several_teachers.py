"""Several teachers as one: ``--teacher a+b``."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdzoo import PairError
from kdzoo.models.teacher import mean_logits, refuse_beside_logits
from kdzoo.record import Record, parse_record
from kdzoo.store import Store

PAIR = "test_resnet+test_efficientnet"
STUDENT = "test_resnet"
DIGITS = (
    *("--dataset", "digits[:300]", "--student", STUDENT, "--teacher", PAIR),
    *("--epochs", 4, "--teacher-epochs", 8, "--seeds", 1, "--device", "cpu", "--set", "recipe.batch_size=16"),
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any]) -> tuple[Path, Any]:
    """A store after a bench of two teachers as one, and what it printed."""
    out = tmp_path_factory.mktemp("several") / "runs"
    result = kdzoo("bench", *DIGITS, "--strategies", "soft,at", "--bank", "ram", "--out", out)
    assert result.code == 1, result.err  # one strategy cannot serve the pair
    return out, result


def records(out: Path) -> list[Record]:
    store = Store.open(out)
    found = [parse_record(path.read_bytes(), str(path)) for path in sorted(store.cells.glob("*/record.json"))]
    return sorted(found, key=lambda record: (record.cell.kind, record.cell.strategy.name, str(record.cell.student)))


def soft(out: Path) -> Record:
    (found,) = [one for one in records(out) if one.cell.strategy.name == "soft"]
    assert found.status == "done", found.reason
    return found


def trainings(out: Path) -> list[Record]:
    return [one for one in records(out) if one.cell.kind == "teacher"]


def test_the_logits_are_the_logarithm_of_the_mean_of_the_probabilities() -> None:
    draw = torch.Generator().manual_seed(0)
    given = [torch.randn(3, 4, generator=draw, dtype=torch.float64) * scale for scale in (1, 5, 20)]
    together = mean_logits(given)
    for row in range(3):
        for place in range(4):
            shares = [math.exp(z[row, place]) / sum(math.exp(value) for value in z[row].tolist()) for z in given]
            assert float(together[row, place]) == pytest.approx(math.log(sum(shares) / 3), rel=1e-12)
    assert torch.equal(together.softmax(1).argmax(1), sum(z.softmax(1) for z in given).argmax(1))


def test_the_mean_is_finite_for_any_finite_logits() -> None:
    certain = torch.tensor([[1e4, -1e4, 0.0], [50.0, -50.0, 0.0]])
    assert mean_logits([certain, -certain]).isfinite().all()
    assert mean_logits([certain.bfloat16(), certain.bfloat16()]).dtype == torch.float32
    # Of equal teachers the mean is each of them.
    assert torch.allclose(mean_logits([certain, certain]), certain.log_softmax(1))


def test_only_logits_can_be_shared() -> None:
    refuse_beside_logits({"logits"})
    with pytest.raises(PairError, match="it needs the teacher's embedding and stages, and several teachers give only"):
        refuse_beside_logits({"logits", "stages", "embedding"})


def test_each_teacher_is_trained_measured_and_named_in_the_record(ran: tuple[Path, Any]) -> None:
    out, result = ran
    record, made = soft(out), trainings(out)
    assert [str(one.cell.student) for one in made] == ["test_efficientnet", "test_resnet"]
    assert record.cell.teacher
    assert record.teacher
    assert str(record.cell.teacher.model) == "test_efficientnet+test_resnet"  # in the order of the names
    assert record.cell.teacher.weights == "several"
    assert [str(part.model) for part in record.cell.teacher.parts] == ["test_efficientnet", "test_resnet"]
    for member, training in zip(record.teacher.members, made, strict=True):
        path = out / "cells" / training.id / "student.safetensors"
        assert member.weights == hashlib.sha256(path.read_bytes()).hexdigest() == training.weights[path.name]
        assert training.test
        assert member.test["top1"] == pytest.approx(training.test["top1"])
        assert member.size == training.student
    sizes = [member.size for member in record.teacher.members]
    assert record.teacher.size.parameters == sum(size.parameters for size in sizes)
    assert record.teacher.size.macs == sum(size.macs for size in sizes)
    assert record.record_schema == 7
    assert {one.record_schema for one in made} == {6}  # these are as they were
    assert "test_efficientnet+test_resnet -> test_resnet" in result.out


def test_a_strategy_that_needs_more_than_logits_is_refused(ran: tuple[Path, Any]) -> None:
    _, result = ran
    assert "at cannot serve test_efficientnet+test_resnet -> test_resnet" in result.err
    assert "several teachers give only the mean of their probabilities: take one teacher" in result.err


@pytest.mark.exhaustive
def test_the_bank_keeps_the_logits_of_each_and_changes_nothing(
    ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    out, _ = ran
    first = soft(out)
    assert first.environment.bank == "ram: logits float32"
    for folder, flags in (("off", ("--bank", "off")), ("disk", ("--bank", "disk")), ("lockstep", ("--lockstep", 2))):
        result = kdzoo("bench", *DIGITS, "--strategies", "soft", *flags, "--out", tmp_path / folder)
        assert result.code == 0, result.err
        other = soft(tmp_path / folder)
        for line, twin in zip(first.curve, other.curve, strict=True):
            assert line.terms == pytest.approx(twin.terms, rel=2e-2)
    shown = kdzoo("bank", "ls", "--out", tmp_path / "disk").out
    assert {name for name in ("test_efficientnet", "test_resnet") if f" {name} " in shown} == set(PAIR.split("+"))
    assert PAIR not in shown


def test_the_order_of_the_teachers_is_not_part_of_the_cell(ran: tuple[Path, Any], kdzoo: Callable[..., Any]) -> None:
    out, _ = ran
    result = kdzoo("bench", *DIGITS, "--teacher", "test_efficientnet+test_resnet", "--strategies", "soft", "--out", out)
    assert result.code == 0
    assert len(records(out)) == 4  # nothing new was trained


def test_one_network_twice_is_trained_twice(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("bench", *DIGITS, "--teacher", "test_resnet+test_resnet", "--strategies", "soft", "--dry-run")
    assert result.code == 0, result.err
    assert result.out.count("teacher test_resnet on") == 2
    assert "4 cells: 4 new" in result.out
    assert "embedding: none" in result.out


@pytest.mark.parametrize(
    ("teacher", "flags", "sentence"),
    [
        ("test_resnet+", (), "has no name"),
        ("test_resnet+no_such_model", (), "no_such_model"),
    ],
)
def test_a_wrong_name_is_told(teacher: str, flags: tuple[Any, ...], sentence: str, kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("bench", *DIGITS, "--teacher", teacher, "--strategies", "soft", "--dry-run", *flags)
    assert result.code == 2
    assert sentence in result.err


def test_a_file_of_weights_is_one_network(ran: tuple[Path, Any], kdzoo: Callable[..., Any]) -> None:
    out, _ = ran
    path = out / "cells" / trainings(out)[1].id / "student.safetensors"
    same = ("--teacher", "test_resnet+test_resnet", "--teacher-weights", path)
    result = kdzoo("bench", *DIGITS, *same, "--strategies", "soft", "--dry-run")
    assert result.code == 2
    assert "--teacher-weights FILE holds one network, and test_resnet+test_resnet are 2" in result.err


@pytest.mark.exhaustive
def test_a_board_of_it_is_published_checked_and_trained_again(
    ran: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    out, _ = ran
    boards = tmp_path / "boards"
    assert kdzoo("publish", out, "--to", boards).code == 0
    checked = kdzoo("check", boards, "--remeasure", out)
    assert checked.code == 0, checked.out + checked.err
    (path,) = [one for one in boards.glob("records/*/*--*/*.json") if one.stem == soft(out).id]
    again = kdzoo("run-cell", path, "--out", tmp_path / "again", "--device", "cpu")
    assert again.code == 0, again.err
    assert "The result equals the given record." in again.out
    shown = kdzoo("board", "--out", out)
    assert "test_efficientnet+test_resnet, " in shown.out
    assert "trained here" in shown.out
    members = [record for record in records(out) if record.cell.kind == "teacher"]
    (boards / "records" / "digits-300" / "teachers" / f"{members[0].id}.json").unlink()
    missing = kdzoo("check", boards)
    assert missing.code == 1
    assert f"lacks the training of its teacher test_efficientnet, {members[0].id}" in missing.out + missing.err
