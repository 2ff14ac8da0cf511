"""Cells in lockstep give what they give one after the other, for one pass of the teacher."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hard_strategies import HARD, Contrast, Curriculum, ThreePhases
from small_lab import STEPS, Quiet, Run, make_lab, prepare, run, stop_at

from kdzoo import Strategy
from kdzoo.bench import lockstep
from kdzoo.bench.executors.local import run_cells
from kdzoo.bench.lab import Lab
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.engine.lockstep_group import GeneratorState, SharedFeed
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Batch

pytestmark = pytest.mark.exhaustive

BUILT_IN = ["soft", "fitnets", "at", "rkd"]


class Noisy(Strategy):
    """Draws from all three global generators."""

    name = "noisy"

    def forward(self, student: Any, teacher: Any, batch: Batch) -> Any:
        scale = 1 + torch.rand(()) + float(np.random.rand()) + random.random()
        return {"noise": scale * (student.logits - teacher.logits).abs().mean()}


class Breaks(Strategy):
    """Raises in the middle of its second epoch."""

    name = "breaks"

    def forward(self, student: Any, teacher: Any, batch: Batch) -> Any:
        if batch.view == 1 and batch.progress > 0.5:
            raise RuntimeError("broken in the middle")
        return {"term": 0 * student.logits.sum()}


class Infinite(Strategy):
    """Is not finite from the first step on."""

    name = "infinite"

    def forward(self, student: Any, teacher: Any, batch: Batch) -> Any:
        return {"term": student.logits.sum() * float("inf")}


def together(bench: Run, out: Path, classes: Sequence[type[Strategy]], count: int) -> Run:
    """The same plan in another store, in lockstep."""
    other = Run(bench.plan, make_lab(bench.plan, out, classes))
    other.records = run_cells(other.plan.cells, other.lab, Quiet(), "failed", lockstep=count)
    return other


def assert_equal(one: Run, other: Run) -> None:
    for first, second in zip(one.records, other.records, strict=True):
        assert first.outcome() == second.outcome()
        kept = [path.name for path in one.folder(first).glob("*.safetensors")]
        assert kept
        for name in kept:
            assert (one.folder(first) / name).read_bytes() == (other.folder(second) / name).read_bytes()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a teacher ran on a batch of a training, and which signals it gave."""
    counts: Counter[str] = Counter()
    original = Teacher.forward

    def counting(self: Teacher, inputs: Any, signals: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            counts["+".join(sorted(signals))] += 1
        return original(self, inputs, signals)

    monkeypatch.setattr(Teacher, "forward", counting)
    return counts


def test_the_built_in_strategies(tmp_path: Path, teacher_file: str, passes: Counter[str]) -> None:
    bench = run(tmp_path / "one", BUILT_IN, teacher_weights=teacher_file, seeds=2)
    assert passes.total() == 4 * 2 * 2 * STEPS
    passes.clear()
    other = together(bench, tmp_path / "many", [], 4)
    assert_equal(bench, other)
    assert passes == {"embedding+logits+stages": 2 * 2 * STEPS}
    told = {record.cell.strategy.name: record.environment.bank for record in other.records}
    assert told == {"ce": ""} | dict.fromkeys(BUILT_IN, "one pass on the fly for 4 cells")


@pytest.mark.parametrize("recipe", [{}, {"mixup": 0.4}, {"ema": 0.9, "clip_grad": 1.0, "optimizer": "adamw"}])
def test_strategies_that_are_hard_to_serve(recipe: dict[str, Any], tmp_path: Path, teacher_file: str) -> None:
    classes = [*HARD, Noisy]
    settings = {"teacher_weights": teacher_file, "epochs": 4, "recipe": {"lr": 0.005} | recipe}
    if recipe.get("mixup"):
        classes = [each for each in classes if each.views == 1]
    student = "test_vit:depth=2:drop_rate=0.3:embed_dim=16:num_heads=2:patch_size=4"
    bench = run(tmp_path / "one", classes, student=student, **settings)
    assert {record.status for record in bench.records} == {"done"}, [record.traceback for record in bench.records]
    assert_equal(bench, together(bench, tmp_path / "many", classes, len(classes)))


def test_a_phase_without_teacher_asks_for_nothing(tmp_path: Path, teacher_file: str, passes: Counter[str]) -> None:
    bench = prepare(tmp_path / "one", [ThreePhases, "soft"], teacher_weights=teacher_file, epochs=4)
    together(bench, tmp_path / "many", [ThreePhases], 2)
    own = ThreePhases.teacher_signals or ThreePhases.signals
    assert set(passes) <= {"logits", "+".join(sorted({*own, "logits"}))}
    assert passes.total() == 4 * STEPS


@pytest.mark.parametrize("stop", [(0, 2), (1, 0), (1, 3)])
def test_a_stop_changes_nothing(stop: tuple[int, int], tmp_path: Path, teacher_file: str) -> None:
    classes = [Contrast, Curriculum, Noisy]
    settings = {"teacher_weights": teacher_file, "epochs": 3, "recipe": {"mixup": 0.4}}
    bench = run(tmp_path / "one", classes, without_baseline=True, **settings)
    with pytest.raises(KeyboardInterrupt):
        run_cells(bench.plan.cells, make_lab(bench.plan, tmp_path / "many", classes), stop_at(*stop), "failed", None, 3)
    assert_equal(bench, together(bench, tmp_path / "many", classes, 3))


def test_members_that_are_behind_catch_up_first(tmp_path: Path, teacher_file: str, passes: Counter[str]) -> None:
    """One has two epochs more than the others: it waits for them, and then shares their passes."""
    classes = [Noisy, Contrast]
    settings = {"teacher_weights": teacher_file, "epochs": 3}
    bench = run(tmp_path / "one", [*classes, "soft"], without_baseline=True, **settings)
    lab = make_lab(bench.plan, tmp_path / "many", classes)
    with pytest.raises(KeyboardInterrupt):
        run_cells(bench.plan.cells[:1], lab, stop_at(2, 1), "failed")
    passes.clear()
    assert_equal(bench, together(bench, tmp_path / "many", classes, 3))
    assert passes.total() == 3 * STEPS


def test_one_that_fails_leaves_the_others_as_they_are(tmp_path: Path, teacher_file: str) -> None:
    classes = [Breaks, Infinite, Noisy]
    bench = run(tmp_path / "one", [*classes, "soft"], teacher_weights=teacher_file, epochs=3)
    other = together(bench, tmp_path / "many", classes, 4)
    for first, second in zip(bench.records, other.records, strict=True):
        assert first.outcome() == second.outcome()
    assert other.only("breaks").reason == bench.only("breaks").reason
    assert "broken in the middle" in other.only("breaks").reason
    assert "the term 'term' was NaN or infinite" in other.only("infinite").reason
    assert [record.status for record in other.records].count("failed") == 2


def test_more_cells_than_go_together_make_several_companies(
    tmp_path: Path, teacher_file: str, passes: Counter[str]
) -> None:
    bench = run(tmp_path / "one", BUILT_IN, teacher_weights=teacher_file)
    passes.clear()
    assert_equal(bench, together(bench, tmp_path / "many", [], 3))
    assert passes.total() == 2 * 2 * STEPS


def test_what_the_bank_serves_goes_alone(tmp_path: Path, teacher_file: str, passes: Counter[str]) -> None:
    bench = prepare(tmp_path, ["soft", "rkd"], teacher_weights=teacher_file, seeds=2)
    bench.lab.bank = BankSettings(mode="ram")
    records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed", lockstep=2)
    assert passes.total() == 2  # the bank's probe
    assert all(record.environment.bank.startswith("ram") for record in records if record.cell.strategy.name != "ce")


def test_without_it_nothing_of_it_is_done(tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("no cell goes along")

    for name in ("_fitting", "LockstepGroup", "GeneratorState"):
        monkeypatch.setattr(lockstep, name, refuse)
    assert run(tmp_path, ["soft"], teacher_weights=teacher_file).only("soft").status == "done"


@pytest.mark.parametrize(("free", "count"), [(2**40, 4), (0, 1)])
def test_memory_is_estimated_first(
    free: int, count: int, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = prepare(tmp_path, BUILT_IN, teacher_weights=teacher_file)
    monkeypatch.setattr(lockstep, "_free", lambda device: free)
    said: list[str] = []
    bench.lab.say_with(said.append)
    records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed", lockstep=4)
    assert {record.status for record in records} == {"done"}
    told = {record.environment.bank for record in records if record.cell.strategy.name != "ce"}
    if count == 4:
        assert told == {"one pass on the fly for 4 cells"}
        assert said == ["lockstep: 4 cells (soft, fitnets, at, rkd) share each pass of test_efficientnet on quadrants"]
    else:
        assert told == {""}
        assert len(said) == 1
        assert said[0].startswith("lockstep: off for test_resnet on quadrants: two cells need about ")
        assert said[0].endswith(" of memory, and 0 B are free")


def test_what_fits_is_as_many_as_fit(tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = prepare(tmp_path, BUILT_IN, teacher_weights=teacher_file)
    cells = [cell for cell in bench.plan.cells if cell.strategy.name in BUILT_IN]
    estimates = [lockstep._memory_needs(cell, bench.lab) for cell in cells]
    three = sum(estimate.kept for estimate in estimates[:3]) + max(estimate.passing for estimate in estimates[:3])
    monkeypatch.setattr(lockstep, "_free", lambda device: three / lockstep._SHARE + 1)
    assert lockstep._fitting(cells, bench.lab, 4) == 3
    monkeypatch.setattr(lockstep, "_free", lambda device: three / lockstep._SHARE - 1)
    assert lockstep._fitting(cells, bench.lab, 4) == 2


def test_only_what_sees_the_same_goes_together(tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, BUILT_IN, teacher_weights=teacher_file, seeds=2, student="test_resnet,test_efficientnet")
    kinds = lockstep.lockstep_groups(bench.plan.cells, bench.lab)
    assert [len(kind) for kind in kinds] == [5] * 4
    for kind in kinds:
        assert len({(cell.student, cell.seed, cell.teacher) for cell in kind}) == 1


def test_a_shared_epoch_gives_each_batch_once() -> None:
    made: list[int] = []

    def own(epoch: int) -> Iterator[Any]:
        for step in range(3):
            made.append(10 * epoch + step)
            yield made[-1]

    feed = SharedFeed(own)
    one, other, ahead = feed(0), feed(0), feed(1)
    assert next(ahead) == 10
    for step in range(3):
        assert next(one) == next(other) == step
    assert next(one, None) is None
    assert next(other, None) is None
    assert made == [10, 0, 1, 2]
    first, late = feed(2), feed(2)
    next(first), next(first)
    with pytest.raises(RuntimeError, match="step 0 was asked for at step 1"):
        next(late)


def test_draws_of_one_training_are_none_of_another() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()

    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    plain = [draw() for _ in range(4)]
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    one, other = GeneratorState(), GeneratorState()
    before = torch.get_rng_state()
    found: dict[str, list[Any]] = {"one": [], "other": []}
    for _ in range(4):
        with one.here():
            found["one"].append(draw())
        with other.here():
            found["other"].append(draw())
    assert found == {"one": plain, "other": plain}
    assert torch.equal(torch.get_rng_state(), before)


def test_cells_are_held_while_they_train(tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, ["soft", "rkd"], teacher_weights=teacher_file, without_baseline=True)
    other = Lab(**{name: getattr(bench.lab, name) for name in ("store", "registry", "device", "data", "files")})
    seen: list[int] = []

    def look(cell: Any, epoch: int, done: int) -> None:
        taken = []
        for each in bench.plan.cells:
            with other.store.claim(each.id) as mine:
                taken.append(not mine)
        seen.append(sum(taken))

    run_cells(bench.plan.cells, bench.lab, Quiet(on_step=look), "failed", lockstep=2)
    assert set(seen) == {1, 2}
    assert seen.count(1) == 1  # the last step, when the other one has ended
