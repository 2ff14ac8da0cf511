"""Files of a store that are flipped, cut, replaced or gone: named, set aside, made again, and the board is the same."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kdzoo.bench.crashes import crashes_of, start_marked
from kdzoo.bench.results import must_run
from kdzoo.bench.weightfiles import teachers_again, weights_fault
from kdzoo.cli import app
from kdzoo.errors import KdzooError
from kdzoo.record import Record
from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive

OPTIONS = shlex.split(
    "--teacher test_efficientnet --student test_resnet --seeds 1 --epochs 1 --dataset 'digits[:120]' --img-size 16 "
    "--teacher-epochs 8 --device cpu --set recipe.batch_size=16 --set recipe.lr=0.02"
)
WEIGHTS = "student.safetensors"


def kdzoo(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def bench(out: Path, *more: str, strategies: str = "soft", exit_code: int = 0) -> Result:
    done = kdzoo("bench", "--strategies", strategies, *OPTIONS, *more, "--out", out)
    assert done.exit_code == exit_code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output
    return done


def refused(out: Path) -> str:
    """What a bench says that cannot go on: the command line prints the sentence, and no traceback."""
    done = kdzoo("bench", "--strategies", "soft", *OPTIONS, "--out", out)
    assert done.exit_code == 1
    assert isinstance(done.exception, (KdzooError, SystemExit)), done.exception
    return f"{done.exception} {done.output}"


def board(out: Path, exit_code: int = 0) -> list[dict[str, Any]]:
    """The rows, without what a run took."""
    done = kdzoo("board", "--out", out, "--format", "json")
    assert done.exit_code == exit_code, done.output
    took = ("time", "seconds", "memory")
    rows = [row for group in json.loads(done.stdout)["groups"] for row in group["rows"]]
    return [{name: value for name, value in row.items() if not any(word in name for word in took)} for row in rows]


def outcomes(out: Path) -> dict[str, Any]:
    """What every record says, and the bits of its weights."""
    return {record.id: (record.outcome(), record.weights) for record in Store.open(out).records()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a teacher, ``ce`` and ``soft``, its board read once."""
    out = tmp_path_factory.mktemp("whole") / "runs"
    bench(out)
    assert len(outcomes(out)) == 3
    assert all(weights.keys() == {WEIGHTS} for _, weights in outcomes(out).values())
    return out


@pytest.fixture(scope="module")
def longer(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store after a bench of one more strategy."""
    out = Path(shutil.copytree(whole, tmp_path_factory.mktemp("longer") / "runs"))
    bench(out, strategies="soft,at")
    return out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def cell_of(out: Path, strategy: str, kind: str = "student") -> Path:
    (found,) = [
        record.id
        for record in Store.open(out).records()
        if (record.cell.strategy.name, record.cell.kind) == (strategy, kind)
    ]
    return out / "cells" / found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 16
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def gone(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replaced(path: Path) -> None:
    """By another cell's file of the same name."""
    other = next(each for each in path.parent.parent.glob(f"*/{path.name}") if each != path)
    shutil.copy(other, path)


DAMAGES = [flip, cut, gone, a_folder, replaced]


def test_damaged_records_plans_and_markers_are_made_again_and_the_rest_stands(out: Path, whole: Path) -> None:
    soft, plain, teacher = cell_of(out, "soft"), cell_of(out, "ce"), cell_of(out, "ce", "teacher")
    stands = (teacher / "record.json").stat().st_mtime_ns
    cut(soft / "record.json")
    a_folder(plain / "record.json")
    (plain / "cell.json").write_text("")
    (soft / ".ipynb_checkpoints").mkdir()
    (plain / "checkpoint-000001").mkdir()
    gone(out / "store.json")
    told = kdzoo("board", "--out", out)
    assert told.exit_code == 1
    assert told.stderr.count("warning: left out:") == 3
    dry = bench(out, "--dry-run")
    assert dry.stdout.count("damaged") == 3  # both cells, and their number
    again = bench(out)
    for line in (
        "store.json was gone and is recreated",
        f"{soft / 'record.json'}: not valid JSON",
        f"{plain / 'record.json'}: is no plain file but a folder; it is now record.json.damaged-1, and the cell is",
        f"{plain / 'cell.json'} is damaged; it is now cell.json.damaged-1, and is written again",
    ):
        assert line in again.stderr
    assert (soft / "record.json.damaged-1").is_file()
    assert (plain / "record.json.damaged-1").is_dir()
    assert outcomes(out) == outcomes(whole)
    assert board(out) == board(whole)
    assert (teacher / "record.json").stat().st_mtime_ns == stands
    assert "damaged" not in bench(out).output


@pytest.mark.parametrize("damage", [flip, cut, a_folder, replaced])
def test_each_damage_of_a_record_is_found(damage: Callable[[Path], None], out: Path) -> None:
    cell = cell_of(out, "soft")
    damage(cell / "record.json")
    store = Store.open(out)
    assert store.state(cell.name) == "damaged"
    assert len(board(out, exit_code=1)) == 2  # a row whose only seed is missing
    said: list[str] = []
    store.say = said.append
    assert store.claimed_record(cell.name) is None
    assert len(said) == 1
    assert store.state(cell.name) == "new"


def test_a_newer_record_is_named_and_left(out: Path) -> None:
    path = cell_of(out, "soft") / "record.json"
    newer = path.read_text().replace('"record_schema":', '"record_schema":9')
    path.write_text(newer)
    assert f"{path}: written by a newer kdzoo" in refused(out)
    told = kdzoo("board", "--out", out)
    assert told.exit_code == 1
    assert f"{path}: written by a newer kdzoo" in told.stderr
    assert path.read_text() == newer


def test_a_damaged_teacher_is_trained_again_to_the_same_bits(out: Path, longer: Path) -> None:
    teacher = cell_of(out, "ce", "teacher")
    bits = (teacher / WEIGHTS).read_bytes()
    flip(teacher / WEIGHTS)
    again = bench(out, strategies="soft,at")
    assert f"{teacher / WEIGHTS} is not the one that the cell's record was made with; it is retrained" in (again.stderr)
    assert (teacher / WEIGHTS).read_bytes() == bits
    assert (teacher / f"{WEIGHTS}.damaged-1").is_file()
    assert (teacher / "record.json.damaged-1").is_file()
    assert outcomes(out) == outcomes(longer)
    assert board(out) == board(longer)


def test_a_teacher_that_nobody_needs_may_lack_its_weights(out: Path, whole: Path) -> None:
    teacher = cell_of(out, "ce", "teacher")
    gone(teacher / WEIGHTS)
    before = (out / "events.jsonl").read_bytes()
    bench(out)
    assert (out / "events.jsonl").read_bytes() == before
    assert outcomes(out) == outcomes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("older", [False, True])
def test_each_damage_of_a_teachers_weights_is_found(damage: Callable[[Path], None], older: bool, out: Path) -> None:
    """A record of an older kdzoo has no digest: only what is no whole file is found then."""
    teacher, store = cell_of(out, "ce", "teacher"), Store.open(out)
    if older:
        record = store.record(teacher.name)
        store.write_record(record.model_copy(update={"record_schema": 4, "weights": {}}))
    student = store.record(cell_of(out, "soft").name)
    (cell_of(out, "soft") / "record.json").unlink()
    said: list[str] = []
    store.say = said.append

    def needed() -> list[str]:
        return [cell.id for cell in teachers_again([student.cell], store, lambda cell: must_run(cell, store, "failed"))]

    assert needed() == []
    damage(teacher / WEIGHTS)
    found = not older or damage in (cut, gone, a_folder)
    with store.claim(teacher.name):  # another bench has it in hand
        assert needed() == []
    assert needed() == [teacher.name] * found
    assert len(said) == found
    assert store.state(teacher.name) == ("new" if found else "done")
    assert needed() == []


def test_a_student_whose_weights_were_changed_is_not_measured(out: Path) -> None:
    student = cell_of(out, "soft")
    record: Record = Store.open(out).record(student.name)
    assert weights_fault(student / WEIGHTS, record) == ""
    published = out.with_name("board")
    assert kdzoo("publish", out, "--to", published).exit_code == 0
    assert kdzoo("check", published, "--remeasure", out).exit_code == 0
    flip(student / WEIGHTS)
    told = kdzoo("check", published, "--remeasure", out)
    assert told.exit_code == 1
    assert "is not the one that the cell's record was made with" in told.output


def test_run_cell_trains_a_damaged_teacher_again(out: Path, whole: Path) -> None:
    soft, teacher = cell_of(out, "soft"), cell_of(out, "ce", "teacher")
    (soft / "record.json").write_text("{")
    cut(teacher / WEIGHTS)
    done = kdzoo("run-cell", soft.name, "--out", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "it is retrained" in done.output
    assert (soft / "record.json.damaged-1").is_file()
    assert outcomes(out) == outcomes(whole)


@pytest.mark.parametrize("place", ["events.jsonl", "locks/bank-ledger.lock"])
def test_what_is_in_the_way_is_told(place: str, out: Path) -> None:
    (cell_of(out, "soft") / "record.json").unlink()
    (out / place).unlink()
    os.mkfifo(out / place)
    assert f"{out / place} is in the place of a file of kdzoo; move it away" in refused(out)


@pytest.mark.parametrize("name", [".attempt", ".last-words", "checkpoint-000001.damaged-1"])
@pytest.mark.parametrize("what", ["folder", "pipe", "device"])
def test_what_stands_in_the_place_of_a_mark_harms_nothing(name: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-000002").touch()
    match what:
        case "folder":
            (tmp_path / name).mkdir()
        case "pipe":
            os.mkfifo(tmp_path / name)
        case "device":
            (tmp_path / name).symlink_to("/dev/zero")
    before = crashes_of(tmp_path)
    assert (before.place, before.count) == (2, 0)
    with start_marked(tmp_path, before):
        crashes_of(tmp_path)


def test_a_damaged_study_and_trial_are_made_again_from_records(whole: Path, tmp_path: Path) -> None:
    tuned = Path(shutil.copytree(whole, tmp_path / "tuned"))
    more = ("--tune", "2", "--tune-epochs", "1")
    bench(tuned, *more)
    out = Path(shutil.copytree(tuned, tmp_path / "runs"))
    (study,) = [path for path in (out / "studies").glob("*.json") if '"name":"soft"' in path.read_text()]
    trial = json.loads(study.read_text())["trials"][1]["cell"]
    cut(study)
    again = bench(out, *more)
    assert f"{study}: not valid JSON" in again.stderr
    assert "the study is rebuilt from the records of its trials" in again.stderr
    assert (study.with_name(f"{study.name}.damaged-1")).is_file()
    assert study.read_text() == (tuned / "studies" / study.name).read_text()
    cut(out / "cells" / trial / "record.json")
    assert "it is now record.json.damaged-1" in bench(out, *more).stderr
    assert board(out) == board(tuned)
