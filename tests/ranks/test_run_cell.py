"""``kdzoo run-cell``: in one process, in two, and what happens to the others when one of them fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from rank_pair import Pair, kdzoo
from safetensors.torch import load_file
from waiting import finish, start, wait_for_end, wait_until

from kdzoo.cell import Cell
from kdzoo.record import Record, parse_record
from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive

TOYS = '''
import contextlib
import os
import signal
import time
from datetime import timedelta

import numpy as np
import torch

from kdzoo import ArrayData, Dataset, Splits, Strategy, hookimpl


class Shades(Dataset):
    """Dark and bright images."""

    name = "shades"
    img_size = (8, 8)

    def load(self, data_dir, download):
        labels = np.arange(96, dtype=np.int64) % 2
        noise = np.random.default_rng(0).integers(0, 60, (96, 1, 8, 8))
        images = (noise + 190 * labels[:, None, None, None]).astype(np.uint8)
        return Splits(ArrayData(images[:64], labels[:64]), ArrayData(images[64:], labels[64:]), ("dark", "bright"))


@hookimpl
def kdzoo_datasets():
    return [Shades()]


class Slow(Strategy):
    name = "slow"

    def forward(self, student, teacher, batch):
        if "TOYS_STAY" in os.environ and batch.view == 1:
            time.sleep(3600)  # in the second epoch, to be killed
        return {"mse": 0.01 * (student.logits - teacher.logits).square().mean()}


class Uneven(Strategy):
    """Fails on the second process alone, in the second epoch."""

    name = "uneven"

    def forward(self, student, teacher, batch):
        if os.environ.get("RANK") == "1" and batch.view == 1:
            raise RuntimeError("the second one dropped the batch")
        return {"mse": 0.01 * (student.logits - teacher.logits).square().mean()}


class Mortal(Strategy):
    """Leaves the group on the second process without a word, as one that is killed."""

    name = "mortal"

    def forward(self, student, teacher, batch):
        if os.environ.get("RANK") == "1" and batch.view == 1:
            torch.distributed.destroy_process_group()
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            # Until rank 0 told that it lost this one, or has told it and is gone.
            with contextlib.suppress(torch.distributed.DistError):
                torch.distributed.TCPStore(address, port).wait(["kdzoo/failed"], timedelta(minutes=10))
            signal.signal(signal.SIGINT, signal.default_int_handler)  # as if somebody had typed it
            raise KeyboardInterrupt
        return {"mse": 0.01 * (student.logits - teacher.logits).square().mean()}


class UnevenEach(Uneven):
    name = "uneven-each"
    per_sample = True


class MortalEach(Mortal):
    name = "mortal-each"
    per_sample = True
'''
ARGUMENTS = (
    *("--teacher", "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1", "--student", "test_resnet"),
    *("--dataset", "shades", "--epochs", 3, "--teacher-epochs", 4, "--seeds", 1, "--device", "cpu"),
    *("--set", "recipe.batch_size=8", "--set", "recipe.lr=0.005"),
    *("--strategies", "slow,uneven,mortal,uneven-each,mortal-each"),
)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "toys.py"
    path.write_text(TOYS)
    return path


@pytest.fixture(scope="module")
def one(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[int, str, str]]:
    """A store whose cells were planned, after one of them was run in one process; and what that printed."""
    out = tmp_path_factory.mktemp("one") / "runs"
    code, text, errors = kdzoo("bench", "--plan", *ARGUMENTS, "--plugin", toys, "--out", out)
    assert (code, "7 cells: 7 new" in text) == (0, True), errors
    shutil.copytree(out, out.with_name("planned"))
    return out, kdzoo("run-cell", cell_of(out, "slow").id, "--plugin", toys, "--out", out)


@pytest.fixture
def planned(one: tuple[Path, Any], tmp_path: Path) -> Path:
    """A store in which nothing but the teacher has run."""
    shutil.copytree(one[0].with_name("planned"), tmp_path / "runs")
    teacher = cell_of(one[0], "teacher").id
    shutil.copytree(one[0] / "cells" / teacher, tmp_path / "runs" / "cells" / teacher, dirs_exist_ok=True)
    return tmp_path / "runs"


def cell_of(out: Path, what: str) -> Cell:
    (cell,) = [each for each in Store(out).planned() if what in (each.kind, each.strategy.name) and what != "ce"]
    return cell


def compiling(*arguments: Any) -> tuple[int, str, str]:
    """The command with networks that are traced, but not handed to the C++ compiler, which takes minutes."""
    original = torch.nn.Module.compile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda self: original(self, backend="aot_eager"))
        return kdzoo(*arguments)


def record_of(out: Path, cell: Cell) -> Record:
    return parse_record((out / "cells" / cell.id / "record.json").read_bytes(), "a record")


def test_one_process_trains_the_teacher_and_then_the_cell(one: tuple[Path, tuple[int, str, str]]) -> None:
    out, (code, text, errors) = one
    assert code == 0, errors
    assert [line[:5] for line in errors.splitlines() if line.startswith("[")] == ["[1/2]", "[2/2]"]
    cell = cell_of(out, "slow")
    record = record_of(out, cell)
    assert record.test is not None
    assert text.startswith("slow test_vit")
    assert f"{record.test['top1']:.2f}% on test" in text
    assert {each.cell.strategy.name for each in Store(out).records()} == {"ce", "slow"}
    assert "x cpu" not in record.environment.device


def test_two_processes_write_the_same_record(one: tuple[Path, Any], planned: Path, toys: Path, pair: Pair) -> None:
    cell = cell_of(planned, "slow")
    arguments = ("run-cell", cell.id[:8], "--plugin", toys, "--out", planned)
    (code, text, errors), (other, *silence) = pair.call(kdzoo, *arguments)
    assert (code, other, silence) == (0, 0, ["", ""]), errors
    assert "% on test" in text
    whole, divided = record_of(one[0], cell), record_of(planned, cell)
    for line, same in zip(whole.curve, divided.curve, strict=True):
        assert same.terms == pytest.approx(line.terms, rel=1e-3)
    assert divided.environment.device == f"2 x {whole.environment.device}"
    assert sorted(path.name for path in (planned / "cells" / cell.id).iterdir()) == [
        "cell.json",
        "record.json",
        "student.safetensors",
    ]
    before = (planned / "cells" / cell.id / "record.json").read_bytes()
    (code, _, errors), (other, *silence) = pair.call(kdzoo, *arguments)
    assert (code, other, silence) == (0, 0, ["", ""])
    assert "1 of 1 cells were already done" in errors
    assert (planned / "cells" / cell.id / "record.json").read_bytes() == before


def test_tune_is_measured_as_often_as_asked(one: tuple[Path, Any], planned: Path, toys: Path, pair: Pair) -> None:
    cell = cell_of(planned, "slow")
    arguments = ("run-cell", cell.id, "--plugin", toys, "--out", planned, "--eval-every", 2, "--compile")
    (code, _, errors), (other, *_) = pair.call(compiling, *arguments)
    assert (code, other) == (0, 0), errors
    whole, record = record_of(one[0], cell), record_of(planned, cell)
    assert [line.score is None for line in record.curve] == [True, False, False]
    assert (whole.environment.compiled, record.environment.compiled) == (False, True)
    for line, same in zip(whole.curve, record.curve, strict=True):
        assert same.terms == pytest.approx(line.terms, rel=1e-3)


def test_compiling_is_refused_where_it_cannot_work(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fail)
    cell = cell_of(planned, "slow")
    code, _, errors = kdzoo("run-cell", cell.id, "--out", planned, "--compile")
    assert code == 2
    assert errors.startswith("error: --compile: torch.compile does not work here (no C++ compiler)")
    assert not (planned / "cells" / cell.id / "record.json").exists()


@pytest.mark.parametrize("name", ["uneven", "uneven-each"])
def test_a_failure_of_the_other_process_is_recorded(name: str, planned: Path, toys: Path, pair: Pair) -> None:
    cell = cell_of(planned, name)
    (code, text, errors), (other, *silence) = pair.call(kdzoo, "run-cell", cell.id, "--plugin", toys, "--out", planned)
    assert (code, other, silence) == (1, 1, ["", ""])
    record = record_of(planned, cell)
    assert record.status == "failed"
    line = next(number for number, text in enumerate(TOYS.splitlines(), 1) if "dropped the batch" in text)
    assert record.reason == f"RuntimeError: the second one dropped the batch (toys.py:{line})"
    assert "in forward" in record.traceback
    assert record.reason in text
    assert "toys.py" in errors


@pytest.mark.parametrize("name", ["mortal", "mortal-each"])
def test_a_process_that_is_gone_leaves_the_cell_as_it_was(name: str, planned: Path, toys: Path, pair: Pair) -> None:
    cell = cell_of(planned, name)
    (code, _, errors), (other, *_) = pair.call(kdzoo, "run-cell", cell.id, "--plugin", toys, "--out", planned)
    assert (code, other) == (2, 1)
    assert "error: another process of this cell is gone or does not answer" in errors
    names = [path.name for path in (planned / "cells" / cell.id).iterdir()]
    assert sorted(names) == ["cell.json", "checkpoint-000001"]


def test_what_cannot_be_divided_is_told_once(toys: Path, pair: Pair, tmp_path: Path) -> None:
    odd = ["recipe.batch_size=7" if each == "recipe.batch_size=8" else each for each in ARGUMENTS]
    out = tmp_path / "runs"
    assert kdzoo("bench", "--plan", *odd, "--plugin", toys, "--out", out)[0] == 0
    told = pair.call(kdzoo, "run-cell", cell_of(out, "slow").id, "--plugin", toys, "--out", out)
    assert told[0][0] == 2
    assert told[0][2] == (
        "error: a batch of 7 samples cannot be divided among 2 processes; start a number of processes that divides it\n"
    )
    assert told[1] == (1, "", "")


def test_a_bench_is_not_for_launchers(toys: Path, pair: Pair, tmp_path: Path) -> None:
    for code, _, errors in pair.call(kdzoo, "bench", *ARGUMENTS, "--plugin", toys, "--out", tmp_path / "runs"):
        assert code == 2
        assert "a launcher started 2 processes, and only kdzoo run-cell divides its work among them" in errors
    assert not (tmp_path / "runs").exists()


def test_wrong_ids(one: tuple[Path, Any], tmp_path: Path) -> None:
    out = one[0]
    code, _, errors = kdzoo("run-cell", "zz", "--out", out)
    assert code == 2
    assert f"error: no cell of {out} begins with 'zz'; there are 7: " in errors
    assert all(path.name in errors for path in (out / "cells").iterdir())
    code, _, errors = kdzoo("run-cell", "", "--out", out)
    assert (code, "error: 7 cells of" in errors) == (2, True)
    code, _, errors = kdzoo("run-cell", "a", "--out", tmp_path / "nothing")
    assert (code, "there is no run directory" in errors) == (2, True)
    assert not (tmp_path / "nothing").exists()


def test_a_cell_that_another_process_runs_is_left_alone(planned: Path, toys: Path) -> None:
    cell = cell_of(planned, "slow")
    with Store(planned).claim(cell.id):
        code, _, errors = kdzoo("run-cell", cell.id, "--plugin", toys, "--out", planned)
    assert code == 2
    assert "another process runs slow" in errors
    assert not (planned / "cells" / cell.id / "record.json").exists()


def test_a_trial_whose_study_may_end_it_is_refused(one: tuple[Path, Any], tmp_path: Path) -> None:
    store = Store.create(tmp_path / "runs")
    trial = cell_of(one[0], "slow").model_copy(update={"kind": "trial", "study": "0123456789abcdef"})
    store.plan(trial)
    code, _, errors = kdzoo("run-cell", trial.id, "--out", store.path)
    assert (code, "is a trial whose study may end it early" in errors) == (2, True)


def test_a_teachers_file_is_asked_for(toys: Path, one: tuple[Path, Any], tmp_path: Path) -> None:
    weights = one[0] / "cells" / cell_of(one[0], "teacher").id / "student.safetensors"
    out = tmp_path / "runs"
    asked = ("--plugin", toys, "--out", out)
    assert kdzoo("bench", "--plan", *ARGUMENTS, *asked, "--teacher-weights", weights)[0] == 0
    cell = cell_of(out, "slow")
    code, _, errors = kdzoo("run-cell", cell.id, *asked)
    assert (code, "give that file by --teacher-weights" in errors) == (2, True)
    assert kdzoo("run-cell", cell.id, *asked, "--teacher-weights", weights, "--quiet")[::2] == (0, "")
    assert record_of(out, cell).status == "done"


def _launch(out: Path, cell: Cell, toys: Path, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += ["--module", "kdzoo", "run-cell", cell.id, "--plugin", str(toys), "--out", str(out)]
    return start(*command, env=os.environ | variables, stderr=subprocess.STDOUT)


def test_killed_and_launched_again(
    one: tuple[Path, Any], planned: Path, toys: Path, pair: Pair, tmp_path: Path
) -> None:
    """By accelerate's own launcher: a process is killed in the second epoch, and all of them end."""
    cell = cell_of(planned, "slow")
    whole = shutil.copytree(planned, tmp_path / "whole")
    for code, *_ in pair.call(kdzoo, "run-cell", cell.id, "--plugin", toys, "--out", whole):
        assert code == 0
    first = _launch(planned, cell, toys, TOYS_STAY="1")
    folder = planned / "cells" / cell.id
    wait_until(lambda: any(folder.glob("checkpoint-*")), "the first epoch", first)
    ranks = psutil.Process(first.pid).children(recursive=True)
    (victim,) = [each for each in ranks if "run-cell" in each.cmdline() and each.environ().get("RANK") == "1"]
    victim.send_signal(signal.SIGKILL)
    said, _ = finish(first)
    assert first.returncode == 1, said
    wait_for_end(ranks)
    assert not (folder / "record.json").exists(), said
    second = _launch(planned, cell, toys)
    said, _ = finish(second)
    assert second.returncode == 0, said
    assert record_of(planned, cell).outcome() == record_of(whole, cell).outcome()
    ours, theirs = (load_file(out / "cells" / cell.id / "student.safetensors") for out in (planned, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [json.loads(line) for line in (planned / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines if line.get("cell") == cell.id] == ["start", "start", "done"]
