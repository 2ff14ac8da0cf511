"""Tuning with real trainings: what a trial measures, what ends it, and what comes of the winner."""

from __future__ import annotations

import math
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_lab import Quiet, Run, make_lab, prepare
from waiting import finish, start, wait_until

from kdzoo import Batch, Outputs, Strategy, Terms, param
from kdzoo.bench.executors.local import run_cells
from kdzoo.bench.plan import BenchResult
from kdzoo.bench.session import run_bench
from kdzoo.cell import Cell
from kdzoo.record import Record
from kdzoo.record_parts import Epoch
from kdzoo.store import Store
from kdzoo.storefiles import read_record
from kdzoo.study import Study, parse_study


class Pull(Strategy):
    """Pulls the student's logits to the teacher's, or with a high weight anywhere."""

    name = "pull"
    weight: float = param(0.5, search=(0.0, 1.0))
    trap: float = param(0.0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        if self.weight < self.trap:
            raise RuntimeError("fell into the trap")
        loss = self.weight * (student.logits - teacher.logits).square().mean()
        return {"pull": loss * (math.nan if self.weight > 0.85 else 1)}


def tuned(out: Path, teacher: str, report: Quiet | None = None, **config: Any) -> tuple[Run, BenchResult]:
    config = {"tune": 6, "epochs": 2, "tune_epochs": 1, "seeds": 2} | config
    bench = prepare(out, [Pull], teacher_weights=teacher, **config)
    return bench, run_bench(bench.plan, bench.lab, report or Quiet(), "failed")


def only(studies: list[Study]) -> Study:
    (study,) = studies
    return study


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> tuple[Run, BenchResult]:
    return tuned(tmp_path_factory.mktemp("tuned"), teacher_file)


def test_trials_are_cells_that_never_see_test(whole: tuple[Run, BenchResult]) -> None:
    bench, result = whole
    study = only(result.studies)
    assert study.finished
    assert bench.lab.store.find_study(study.id) == study
    assert len(study.trials) == 6
    trials = [record for record in result.records if record.cell.kind == "trial"]
    assert {record.id for record in trials} == {trial.cell for trial in study.trials}
    finals = {record.cell.seed for record in result.records if record.cell.kind == "student"}
    assert finals == {0, 1}
    for record in trials:
        assert record.test is None
        assert record.cell.seed not in finals
        assert record.cell.recipe.epochs == 1
        names = {path.name for path in bench.folder(record).iterdir()}
        assert names == {"cell.json", "record.json"}
    done = [record for record in trials if record.status == "done"]
    for record in done:
        assert record.tune is not None
        assert record.curve[-1].score == record.tune["top1"]


def test_a_loss_that_is_not_finite_prunes_the_trial(whole: tuple[Run, BenchResult]) -> None:
    study = only(whole[1].studies)
    states = {float(str(trial.values["pull.weight"])) > 0.85: trial.state for trial in study.trials}
    assert states == {False: "done", True: "pruned"}
    assert all("not finite" in trial.reason or "NaN" in trial.reason for trial in study.trials if trial.reason)


def test_the_winner_is_trained_on_the_seeds_of_the_default(whole: tuple[Run, BenchResult]) -> None:
    _, result = whole
    study = only(result.studies)
    assert study.best is not None
    by_weight: dict[Any, set[int]] = {}
    for record in result.records:
        if record.cell.kind == "student" and record.cell.strategy.name == "pull":
            by_weight.setdefault(record.cell.strategy.params["weight"], set()).add(record.cell.seed)
    assert by_weight == {0.5: {0, 1}, study.best.values["pull.weight"]: {0, 1}}
    assert {cell.id for cell in result.cells} == {record.id for record in result.records if record.cell.kind != "trial"}


def test_the_same_command_finds_everything_done(whole: tuple[Run, BenchResult]) -> None:
    bench, result = whole
    steps: list[Any] = []
    again = run_bench(
        bench.plan,
        make_lab(bench.plan, bench.lab.store.path, [Pull]),
        Quiet(lambda *step: steps.append(step)),
        "failed",
    )
    assert steps == []
    assert [record.id for record in again.records] == [record.id for record in result.records]
    assert again.studies == result.studies


@pytest.mark.exhaustive
def test_a_trial_that_was_stopped_resumes_and_loses_no_epoch(
    tmp_path: Path, teacher_file: str, whole: tuple[Run, BenchResult]
) -> None:
    """Stopped in the middle of every epoch of every trial in turn; each stop loses the begun epoch only."""
    config = {"tune": 3, "tune_epochs": 2}
    _, uncut = tuned(tmp_path / "whole", teacher_file, **config)
    finished: list[tuple[str, int]] = []
    stopped: set[tuple[str, int]] = set()

    def on_step(cell: Cell, epoch: int, done: int) -> None:
        if cell.kind == "trial" and done == 2 and (cell.id, epoch) not in stopped:
            stopped.add((cell.id, epoch))
            raise KeyboardInterrupt

    def on_epoch(cell: Cell, line: Epoch) -> None:
        if cell.kind == "trial":
            finished.append((cell.id, line.epoch))

    for _ in range(20):
        try:
            _, result = tuned(tmp_path / "cut", teacher_file, Quiet(on_step, on_epoch), **config)
            break
        except KeyboardInterrupt:
            continue
    assert len(stopped) >= 5
    assert len(finished) == len(set(finished))
    assert [timeless(study) for study in result.studies] == [timeless(study) for study in uncut.studies]
    assert {record.id: record.outcome() for record in result.records} == {
        record.id: record.outcome() for record in uncut.records
    }


@pytest.mark.parametrize("lost", ["record.json", ""])
def test_a_study_stands_without_the_folders_of_its_trials(
    lost: str, tmp_path: Path, teacher_file: str, whole: tuple[Run, BenchResult]
) -> None:
    before = whole[1]
    store = Path(shutil.copytree(whole[0].lab.store.path, tmp_path / "runs"))
    study = only(before.studies)
    gone = store / "cells" / study.trials[1].cell
    (gone / lost).unlink() if lost else shutil.rmtree(gone)
    steps: list[Any] = []
    _, after = tuned(store, teacher_file, Quiet(lambda *step: steps.append(step)))
    assert steps == []
    assert after.studies == before.studies
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    missing = {record.id for record in before.records} - {record.id for record in after.records}
    assert missing == {study.trials[1].cell}
    (store / "studies" / f"{study.id}.json").unlink()
    _, rebuilt = tuned(store, teacher_file, Quiet(lambda *step: steps.append(step)))
    assert {step[0].id for step in steps} == missing
    assert timeless(only(rebuilt.studies)) == timeless(study)


def timeless(study: Study) -> list[Any]:
    return [trial.model_dump(exclude={"seconds"}) for trial in study.trials]


def test_another_exception_is_a_failure_that_is_shown(tmp_path: Path, teacher_file: str) -> None:
    _, result = tuned(tmp_path, teacher_file, set={"pull.trap": 0.4}, search={"pull.weight": "0:0.8"})
    study = only(result.studies)
    failed = [trial for trial in study.trials if trial.state == "failed"]
    assert 0 < len(failed) < 6
    assert {trial.reason.partition(" (")[0] for trial in failed} == {"RuntimeError: fell into the trap"}
    assert all(float(str(trial.values["pull.weight"])) < 0.4 for trial in failed)
    assert len(study.trials) == 6
    assert sum(record.status == "failed" for record in result.records) == len(failed)


class Cited(Pull):
    """Its paper pulled with another weight."""

    name = "cited"
    weight: float = param(0.5, paper=0.75, search=(0.0, 0.8))
    trap: float = param(0.0, paper=0.1)


@pytest.mark.parametrize(("given", "first"), [({}, 0.75), ({"cited.weight": 0.25}, 0.25), ({"cited.weight": 0.5}, 0.5)])
def test_trial_0_has_the_papers_value_unless_another_was_set(
    given: dict[str, float], first: float, tmp_path: Path, teacher_file: str
) -> None:
    bench = prepare(tmp_path, [Cited], teacher_weights=teacher_file, tune=2, epochs=1, tune_epochs=1, set=given)
    (plan,) = bench.plan.studies
    assert plan.defaults() == {"cited.weight": first}
    assert plan.strategy.params["trap"] == 0.0
    # The row by default is the strategy's own, whatever the paper says.
    (row,) = {
        cell.strategy.params["weight"]
        for cell in bench.plan.cells
        if cell.kind == "student" and cell.strategy.name == "cited"
    }
    assert row == given.get("cited.weight", 0.5)


def test_a_pruner_ends_trials_after_whole_epochs(tmp_path: Path, teacher_file: str) -> None:
    _, result = tuned(
        tmp_path, teacher_file, tune=8, tune_epochs=4, pruner="median", search={"pull.weight": "0:0.8"}, epochs=4
    )
    study = only(result.studies)
    states = [trial.state for trial in study.trials]
    assert states[:4] == ["done"] * 4
    assert "pruned" in states
    for trial in study.trials:
        assert len(trial.curve) == 4 if trial.state == "done" else 1 < len(trial.curve) < 4
        if trial.state == "pruned":
            assert trial.reason == f"median pruner, after epoch {len(trial.curve)} of 4"
    seconds = [trial.seconds for trial in study.trials]
    assert min(seconds) > 0


def test_the_recipe_is_searched_for_the_baseline_too(tmp_path: Path, teacher_file: str) -> None:
    bench, result = tuned(tmp_path, teacher_file, tune=2, tune_recipe="lr", seeds=1)
    assert {study.plan.strategy.name for study in result.studies} == {"ce", "pull"}
    assert {study.plan.trials for study in result.studies} == {2}
    for study in result.studies:
        assert study.best is not None
        (final,) = study.finals([0])
        assert final.recipe.lr == study.best.values["recipe.lr"]
        record = bench.lab.store.record(final.id)
        assert record.status == "done"


@pytest.mark.exhaustive
def test_two_benches_share_a_study(tmp_path: Path, teacher_file: str) -> None:
    """A second bench takes up the cells that the first does not hold, and both end with the same study."""
    config = {"tune": 4, "tune_batch": 2}
    _, alone = tuned(tmp_path / "alone", teacher_file, **config)
    others: list[Study] = []

    def on_step(cell: Cell, epoch: int, done: int) -> None:
        if cell.kind == "trial" and not others:
            others.append(None)  # type: ignore[arg-type]
            bench = prepare(
                tmp_path / "shared", [Pull], teacher_weights=teacher_file, epochs=2, tune_epochs=1, **config
            )
            store = bench.lab.store
            study = store.find_study(bench.plan.studies[0].id)
            assert study is not None
            free = [study.plan.trial(trial.values) for trial in study.trials if trial.cell != cell.id]
            run_cells(free, bench.lab, Quiet(), "failed")

    _, both = tuned(tmp_path / "shared", teacher_file, Quiet(on_step), **config)
    assert others
    assert timeless(only(both.studies)) == timeless(only(alone.studies))


@pytest.mark.exhaustive
def test_a_real_bench_killed_in_its_studies_keeps_their_number(tmp_path: Path) -> None:
    options = shlex.split(
        "bench --strategies soft --teacher test_efficientnet --student test_resnet --seeds 1 --epochs 1 "
        "--dataset digits[:120] --img-size 16 --teacher-epochs 8 --device cpu --set recipe.batch_size=16 "
        "--set recipe.lr=0.02 --tune 3 --tune-epochs 2"
    )

    def bench(out: Path) -> subprocess.Popen[str]:
        return start(sys.executable, "-m", "kdzoo", *options, "--out", out)

    out = tmp_path / "cut"
    killed = 0
    for ended in (1, 2):
        process = bench(out)
        wait_until(lambda number=ended: trials_begun(out) >= number, f"trial {ended}", process)
        time.sleep(0.05)  # into the trial
        process.kill()
        finish(process)
        killed += process.returncode == -signal.SIGKILL
    assert killed == 2
    last = bench(out)
    told = finish(last)
    assert last.returncode == 0, told
    (studies, problems) = Store.open(out).readable_studies()
    assert problems == []
    study = only(studies)
    assert study.finished
    assert len(study.trials) == 3
    trials = [record for record in Store.open(out).records() if record.cell.kind == "trial"]
    assert len(trials) == 3
    whole = bench(tmp_path / "whole")
    told = finish(whole)
    assert whole.returncode == 0, told
    (uncut, _) = Store.open(tmp_path / "whole").readable_studies()
    assert timeless(study) == timeless(only(uncut))


def trials_begun(out: Path) -> int:
    paths = list((out / "studies").glob("*.json")) if out.exists() else []
    studies = [parse_study(path.read_bytes(), path.name) for path in paths]
    return sum(len(study.trials) for study in studies)


def test_the_records_of_trials_are_taken_as_they_were_made(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(folder: Path) -> Record | None:
        record = read_record(folder)
        read.extend([folder] if record else [])
        return record

    monkeypatch.setattr("kdzoo.storefiles.read_record", counted)
    bench, result = tuned(tmp_path, teacher_file, tune=2, epochs=1, seeds=1)
    trials = {bench.folder(record) for record in result.records if record.cell.kind == "trial"}
    assert len(trials) == 2
    assert not trials & set(read)
