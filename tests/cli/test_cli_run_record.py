"""``kdzoo run-cell RECORD.json``: a published row trained again, in a folder that holds nothing else."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.cli.run_cell import settings_of
from kdzoo.record import Record, parse_record
from kdzoo.record_parts import Environment

DIGITS = (
    *("--dataset", "digits[:300]", "--teacher", "test_resnet"),
    *("--student", "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1"),
    *("--epochs", 2, "--teacher-epochs", 8, "--seeds", 2, "--device", "cpu", "--set", "recipe.batch_size=16"),
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any]) -> Path:
    """A leaderboard of digits whose rows read the teacher's signals from the bank."""
    folder = tmp_path_factory.mktemp("published")
    ran = kdzoo("bench", *DIGITS, "--strategies", "soft", "--bank", "disk", "--out", folder / "runs")
    assert ran.code == 0, ran.err
    assert kdzoo("publish", folder / "runs", "--to", folder / "boards").code == 0
    return folder / "boards"


def rows(published: Path, strategy: str) -> list[Path]:
    """The files of a strategy's seeds."""
    found = [path for path in published.glob("records/*/*--*/*.json") if read(path).cell.strategy.name == strategy]
    return sorted(found, key=lambda path: read(path).cell.seed)


def read(path: Path) -> Record:
    return parse_record(path.read_bytes(), str(path))


def test_a_published_row_is_trained_again_to_the_same_bits(
    published: Path, kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    paths = rows(published, "soft")
    result = kdzoo("run-cell", *paths, "--out", tmp_path / "again", "--device", "cpu")
    assert result.code == 0, result.err
    assert result.out.count("The result equals the given record.") == len(paths) == 2
    for path in paths:
        first, second = read(path), read(tmp_path / "again" / "cells" / path.stem / "record.json")
        assert first.outcome() == second.outcome()
        assert (first.weights, first.environment.bank) == (second.weights, second.environment.bank)
    # The teacher is trained once for both.
    assert len(list((tmp_path / "again" / "cells").glob("*/record.json"))) == 3


def test_the_page_names_this_command(
    published: Path, kdzoo: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (published / "digits-300" / "board.html").read_text()
    paths = [path.relative_to(published) for path in rows(published, "ce")]
    command = shlex.join(["kdzoo", "run-cell", *map(str, paths)])
    assert json.dumps(command)[1:-1] in page
    monkeypatch.chdir(published)
    result = kdzoo(*shlex.split(command)[1:], "--out", tmp_path / "again", "--device", "cpu")
    assert result.out.count("The result equals the given record.") == 2


def test_a_difference_is_named(published: Path, kdzoo: Callable[..., Any], tmp_path: Path) -> None:
    path = rows(published, "ce")[0]
    record = read(path)
    assert record.test is not None
    agreement = record.test["agreement"]
    other = record.model_copy(update={"test": record.test | {"agreement": agreement / 2}})
    (tmp_path / "other.json").write_text(other.to_json())
    result = kdzoo("run-cell", "other.json", "--out", "again", "--device", "cpu")
    assert result.code == 0
    told = f"The result differs from the given record: test.agreement {agreement / 2!r} and {agreement!r}."
    assert result.out.splitlines()[-1] == told


@pytest.fixture
def changed(published: Path, tmp_path: Path) -> Callable[..., Path]:
    """The file of a record whose cell has other values."""

    def write(**changes: Any) -> Path:
        record = read(rows(published, "soft")[0])
        cell = record.cell.model_copy(update=changes)
        path = tmp_path / "changed.json"
        path.write_text(record.model_copy(update={"id": cell.id, "cell": cell}).to_json())
        return path

    return write


def test_what_is_not_here_is_one_sentence(
    changed: Callable[..., Path], published: Path, kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    cell = read(rows(published, "soft")[0]).cell
    assert cell.teacher
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    own = cell.teacher.model_copy(
        update={"weights": "file", "recipe": None, "strategy": None, "seed": None, "digest": "a" * 64}
    )
    folder = cell.student.model_copy(update={"name": "local-dir:mine@0123456789abcdef", "args": {}})
    missing = cell.strategy.model_copy(update={"distribution": "not-here", "name": "mine"})
    older = cell.strategy.model_copy(update={"revision": "0"})
    data = cell.data.model_copy(update={"fingerprint": "0" * 16})
    for changes, flags, said in (
        (
            {"teacher": own},
            (),
            f"its weights from a file with the SHA-256 {'a' * 64}; give that file by",
        ),
        ({"teacher": own}, ("--teacher-weights", weights), f"weights.safetensors has the SHA-256 {digest}, and the fi"),
        ({"student": folder}, (), "is the model of a folder, which is not known here; give it by --model"),
        ({"strategy": missing}, (), "unknown strategy 'not-here:mine'"),
        ({"strategy": missing}, (), "or give its file by --plugin"),
        ({"strategy": older}, (), "has the revision 1, and the cell was planned with 0"),
        ({"data": data}, (), f"its fingerprint is {cell.data.fingerprint}, not {'0' * 16}"),
        ({"data": data.model_copy(update={"name": "folder:flowers"})}, (), "give it by --dataset folder:PATH"),
        ({"protocol": 99}, (), "was planned for protocol 99"),
    ):
        result = kdzoo("run-cell", changed(**changes), "--out", "again", "--device", "cpu", *flags)
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert said in result.err
    assert not list((tmp_path / "again").glob("cells/*/record.json"))


def test_a_file_that_is_no_record_is_refused(kdzoo: Callable[..., Any], tmp_path: Path) -> None:
    assert "nothing.json is not there; give the path of a record" in kdzoo("run-cell", "nothing.json").err
    (tmp_path / "bad.json").write_text("{}")
    assert kdzoo("run-cell", "bad.json").code == 2


@pytest.mark.parametrize(
    ("bank", "settings"),
    [
        ("", {"bank": "off"}),
        ("ram: logits float32", {"bank": "ram"}),
        (
            "disk: embedding bfloat16, logits float32; 1 of 5 epochs on the fly",
            {"bank": "disk", "bank_dtype": "bfloat16"},
        ),
    ],
)
def test_the_bank_is_used_as_the_record_says(published: Path, bank: str, settings: dict[str, str]) -> None:
    record = read(rows(published, "ce")[0])
    where = Environment(versions={}, device="cpu", threads=1, bank=bank)
    assert settings_of(record.model_copy(update={"environment": where})) == settings | {"compile": False}
