"""Studies without training: what is asked, in what order, and what a stop, a failure or a pruner changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kdzoo.bench.search import Pruning, ask, make_pruner
from kdzoo.bench.session import run_studies
from kdzoo.cell import Cell
from kdzoo.engine.course import Stop
from kdzoo.measures import image_scores
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.record_parts import Environment, Epoch, Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.space import Range
from kdzoo.store import Store
from kdzoo.study import TRIAL_SEED, TUNER, Study, StudyPlan, Trial

RECIPE = Recipe(name="quick", epochs=6, batch_size=16)
N = 12


def make_plan(**changes: Any) -> StudyPlan:
    values: dict[str, Any] = {
        "tuner": TUNER,
        "data": DataRef(
            name="d", fingerprint="f", num_classes=2, channels=1, img_size=(8, 8), fit=9, tune=1000, test=10
        ),
        "teacher": TeacherRef(model=ModelRef(name="t"), weights="pretrained"),
        "student": ModelRef(name="s"),
        "strategy": StrategyRef(
            name="soft", distribution="kdzoo", revision="1", params={"temperature": 4.0, "alpha": 0.9, "k": 3}
        ),
        "recipe": RECIPE,
        "trial_recipe": RECIPE.model_copy(update={"epochs": 4, "name": "quick+epochs=4"}),
        "space": {"soft.temperature": Range(low=1.0, high=64.0, log=True), "soft.alpha": Range(low=0.0, high=1.0)},
        "trials": N,
    }
    return StudyPlan(**values | changes)


def score(cell: Cell) -> float:
    """A landscape with its top at temperature 8 and alpha 0.5, in [0, 1]."""
    params = cell.strategy.params
    near = abs(float(params["temperature"]) - 8) / 60 + abs(float(params["alpha"]) - 0.5)
    return max(0.0, 0.95 - near / 2)


def make_record(cell: Cell, **changes: Any) -> Record:
    right = round(1000 * score(cell))
    tune = image_scores(n=1000, correct1=right, correct5=1000, nll=1.0, ece=1.0)
    epochs = cell.recipe.epochs
    curve = tuple(
        Epoch(epoch=n, phase="main", terms={}, lr=0.1, tune={"top1": right / 10 * (n + 1) / epochs})
        for n in range(epochs)
    )
    size = Size(parameters=1, macs=1)
    values: dict[str, Any] = {
        "id": cell.id,
        "status": "done",
        "cell": cell,
        "curve": curve,
        "tune": tune,
        "teacher": TeacherMeasures(size=size, tune=tune, test=tune),
        "student": size,
        "cost": {"train": 2.0, "teacher": 1.0, "evaluate": 0.5, "peak_memory": 1},
        "environment": Environment(versions={}, device="cpu", threads=1),
        "started": "2026",
        "ended": "2026",
        "command": "",
    }
    return Record(**values | changes)


class Runner:
    """Runs cells in no time, counts them, and stops the whole bench before the cell of a given place."""

    def __init__(self, store: Store, stop_before: int = -1, record: Callable[[Cell], Record] = make_record) -> None:
        self.store, self.stop_before, self.record = store, stop_before, record
        self.ran: list[Cell] = []
        self.rounds: list[int] = []

    def __call__(self, cells: Sequence[Cell], stops: Mapping[str, Stop]) -> dict[str, Record]:
        self.rounds.append(len(cells))
        for cell in cells:
            if len(self.ran) == self.stop_before:
                raise KeyboardInterrupt
            self.ran.append(cell)
            self.store.plan(cell)
            self.store.write_record(self.record(cell))
        return {}


def run(out: Path, plans: Sequence[StudyPlan], **runner: Any) -> tuple[list[Study], Runner]:
    store = Store.create(out)
    running = Runner(store, **runner)
    return run_studies(plans, store, running, "failed"), running


def test_a_study_has_exactly_its_trials_and_the_first_is_the_default(tmp_path: Path) -> None:
    (study,), runner = run(tmp_path, [make_plan()])
    assert study.finished
    assert len(study.trials) == len(runner.ran) == N
    assert study.trials[0].values == {"soft.temperature": 4.0, "soft.alpha": 0.9}
    assert {(cell.kind, cell.seed, cell.recipe.epochs) for cell in runner.ran} == {("trial", TRIAL_SEED, 4)}
    assert all(cell.strategy.params["k"] == 3 for cell in runner.ran)
    assert runner.rounds == [1] * N
    assert study.seconds == N * 2.5
    for trial in study.trials:
        assert 1 <= trial.values["soft.temperature"] <= 64
        assert 0 <= trial.values["soft.alpha"] <= 1
        assert trial.values["soft.alpha"] == round(trial.values["soft.alpha"], 3)
        assert trial.values["soft.temperature"] == float(f"{trial.values['soft.temperature']:.4g}")


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    (study,), _ = run(tmp_path, [make_plan(trials=40)])
    assert study.best is not None
    scores = [trial.score for trial in study.trials]
    assert study.best.score == max(scores)
    assert study.best.score > 92
    assert sum(scores[20:]) > sum(scores[1:21])  # and looks more and more where it was good


@pytest.mark.parametrize("stop_before", [0, 1, 5, N - 1])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_stopped_study_goes_on_as_if_it_had_not_been(stop_before: int, batch: int, tmp_path: Path) -> None:
    plan = make_plan(batch=batch)
    (whole,), _ = run(tmp_path / "whole", [plan])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [plan], stop_before=stop_before)
    (cut,), _ = run(tmp_path / "cut", [plan])
    assert cut == whole
    assert len(list((tmp_path / "cut/cells").glob("*/record.json"))) == N


def test_a_lost_study_is_rebuilt_from_its_cells(tmp_path: Path) -> None:
    plan = make_plan(batch=3)
    (study,), _ = run(tmp_path, [plan])
    (tmp_path / f"studies/{study.id}.json").unlink()
    (again,), _ = run(tmp_path, [plan])
    assert again == study


def test_batches_are_asked_for_together_and_studies_run_side_by_side(tmp_path: Path) -> None:
    plans = [make_plan(batch=5), make_plan(batch=5, student=ModelRef(name="other"))]
    studies, runner = run(tmp_path, plans)
    assert runner.rounds == [10, 10, 4]
    assert [study.plan for study in studies] == plans
    assert studies[0].trials[1].values != studies[1].trials[1].values  # each study draws for itself
    single, _ = run(tmp_path / "one", [make_plan(batch=1)])
    assert single[0].id != studies[0].id


def test_whole_numbers_stay_whole_and_a_default_outside_is_still_trial_0(tmp_path: Path) -> None:
    space = {"soft.k": Range(low=10, high=20, whole=True)}
    (study,), runner = run(tmp_path, [make_plan(space=space)])
    tried = [cell.strategy.params["k"] for cell in runner.ran]
    assert tried[0] == 3
    assert all(type(value) is int and 10 <= value <= 20 for value in tried[1:])
    assert len(study.trials) == N


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("low", "high", "settings"), [(1, 4, 4), (10, 14, 6), (1, 1000, 12)])
def test_no_setting_is_tried_twice_and_a_study_ends_where_none_is_left(
    low: int, high: int, settings: int, batch: int, tmp_path: Path
) -> None:
    plan = make_plan(space={"soft.k": Range(low=low, high=high, whole=True)}, batch=batch)
    (study,), runner = run(tmp_path, [plan])
    assert study.finished
    assert len(study.trials) == len(runner.ran) == len({cell.id for cell in runner.ran}) == settings
    assert study.exhausted == (settings < N)
    assert study.best is not None
    (again,), idle = run(tmp_path, [plan])
    assert (again, idle.ran) == (study, [])


def test_a_study_that_its_sampler_would_end_in_one_place_goes_on_elsewhere(tmp_path: Path) -> None:
    """Whole numbers with one far above the others: TPE asks for it again and again."""

    def peak(cell: Cell) -> Record:
        return make_record(cell, curve=flat(99.0 if cell.strategy.params["k"] == 7 else 1.0))

    def flat(top1: float) -> tuple[Epoch, ...]:
        return tuple(Epoch(epoch=n, phase="main", terms={}, lr=0.1, tune={"top1": top1}) for n in range(4))

    plan = make_plan(space={"soft.k": Range(low=1, high=40, whole=True)}, trials=38)
    (study,), _ = run(tmp_path, [plan], record=peak)
    assert study.different == 38


@pytest.mark.parametrize(
    ("one", "digits"),
    [
        (Range(low=0.5, high=0.50002), 8),
        (Range(low=1000.0, high=1000.5), 4),
        (Range(low=1e-3, high=1.0001e-3, log=True), 11),
        (Range(low=1e5, high=9e5), -2),
    ],
)
def test_values_are_rounded_by_the_width_of_their_range(one: Range, digits: int, tmp_path: Path) -> None:
    (study,), _ = run(tmp_path, [make_plan(space={"soft.temperature": one}, trials=30)])
    tried = [float(str(trial.values["soft.temperature"])) for trial in study.trials[1:]]
    assert len(set(tried)) == 29
    assert all(value in one and value == pytest.approx(round(value, digits), rel=1e-15) for value in tried)
    spread = (max(tried) - min(tried)) / (one.high - one.low)
    assert 0.5 < spread <= 1


def test_studies_in_one_store_do_not_change_each_other(tmp_path: Path) -> None:
    """A trial that one study's pruner ended is no result of another study that would try the same."""

    def cut(cell: Cell) -> Record:
        return make_record(cell, status="pruned", reason="median pruner, after epoch 1 of 4", tune=None)

    def cut_all_but_the_first(cell: Cell) -> Record:
        return make_record(cell) if cell.strategy.params["alpha"] == 0.9 else cut(cell)

    plan = make_plan(trials=6)
    (alone,), _ = run(tmp_path / "alone", [plan])
    (other,), _ = run(tmp_path / "shared", [make_plan(trials=6, pruner="median")], record=cut_all_but_the_first)
    assert [trial.state for trial in other.trials[1:]] == ["pruned"] * 5
    again = make_plan(trials=6, pruner="median", space=plan.space | {"soft.alpha": Range(low=0.0, high=0.9)})
    (_,), runner = run(tmp_path / "shared", [again])
    assert len(runner.ran) == 6
    (beside,), _ = run(tmp_path / "shared", [plan])
    assert beside == alone


def test_recipe_keys_are_tried_on_the_recipe_and_keep_its_seeds(tmp_path: Path) -> None:
    plan = make_plan(space={"recipe.lr": Range(low=0.005, high=0.5, log=True)})
    (study,), runner = run(tmp_path, [plan])
    assert study.trials[0].values == {"recipe.lr": 0.05}
    assert runner.ran[0].tuned_from is None
    assert runner.ran[1].tuned_from == plan.trial_recipe
    assert runner.ran[1].recipe.lr == study.trials[1].values["recipe.lr"]
    assert runner.ran[1].seed_for("init") == runner.ran[0].seed_for("init")
    assert study.best is not None
    finals = study.finals(range(2))
    assert [cell.seed for cell in finals] == [0, 1]
    assert {cell.kind for cell in finals} == {"student"}
    default = plan.final(plan.defaults(), 1)
    assert default.tuned_from is None
    assert finals[1].seed_for("order") == default.seed_for("order")


def test_failures_are_kept_apart_and_run_again_with_the_same_values(tmp_path: Path) -> None:
    def flaky(cell: Cell) -> Record:
        if float(cell.strategy.params["alpha"]) < 0.5:
            return make_record(cell, status="failed", reason="dropped the batch", cost=None, curve=())
        return make_record(cell)

    plan = make_plan()
    store = Store.create(tmp_path)
    (study,) = run_studies([plan], store, Runner(store, record=flaky), "failed")
    failed = [number for number, trial in enumerate(study.trials) if trial.state == "failed"]
    assert failed
    assert len(study.trials) == N
    assert all(study.trials[number].reason == "dropped the batch" for number in failed)
    left = Runner(store)
    assert run_studies([plan], store, left, "never") == [study]
    assert left.ran == []
    (mended,) = run_studies([plan], store, left, "failed")
    assert [cell.id for cell in left.ran] == [study.trials[number].cell for number in failed]
    assert [trial.values for trial in mended.trials] == [trial.values for trial in study.trials]
    assert all(trial.state == "done" for trial in mended.trials)
    again = Runner(store)
    run_studies([plan], store, again, "always")
    assert len(again.ran) == N


def test_no_trial_done_means_no_winner(tmp_path: Path) -> None:
    def dead(cell: Cell) -> Record:
        return make_record(cell, status="failed", reason="no luck", cost=None)

    (study,), _ = run(tmp_path, [make_plan(trials=3)], record=dead)
    assert study.finished
    assert study.best is None
    assert study.finals(range(3)) == []


def test_of_equal_trials_the_first_wins() -> None:
    plan = make_plan(trials=3)
    other = plan.defaults() | {"soft.alpha": 0.1}
    trials = tuple(
        Trial(cell=plan.trial(values).id, values=values, state="done", curve=(50.0, top1))
        for values, top1 in ((plan.defaults(), 70.0), (other, 80.0), (plan.defaults() | {"soft.alpha": 0.2}, 80.0))
    )
    study = Study(id=plan.id, plan=plan, trials=trials)
    assert study.best == trials[1]


def curve(*values: float) -> list[Epoch]:
    return [Epoch(epoch=n, phase="main", terms={}, lr=0.1, tune={"top1": value}) for n, value in enumerate(values)]


def with_trials(plan: StudyPlan, curves: Sequence[Sequence[float]]) -> Study:
    """A study whose trials have these curves; one more is asked for, and has none."""
    values = [plan.defaults()] + [plan.defaults() | {"soft.alpha": 0.01 * n} for n in range(1, len(curves) + 1)]
    states = [("done", tuple(each)) for each in curves] + [("asked", ())]
    trials = tuple(
        Trial(cell=plan.trial(tried).id, values=tried, state=state, curve=line)
        for tried, (state, line) in zip(values, states, strict=True)
    )
    return Study(id=plan.id, plan=plan, trials=trials)


def test_the_median_pruner_ends_what_is_worse_than_half() -> None:
    plan = make_plan(pruner="median")
    earlier = [(50.0, 60.0, 70.0, 80.0), (52.0, 62.0, 72.0, 82.0), (54.0, 64.0, 74.0, 84.0), (56.0, 66.0, 76.0, 86.0)]
    pruning = Pruning(with_trials(plan, earlier), 4)
    assert pruning(curve(10.0)) == ""  # the first third of a trial is left alone
    assert pruning(curve(10.0, 60.0)) == "median pruner, after epoch 2 of 4"
    assert pruning(curve(70.0, 66.0)) == ""
    assert Pruning(with_trials(plan, earlier[:3]), 3)(curve(10.0, 10.0)) == ""  # too few to compare with
    assert Pruning(with_trials(make_plan(), earlier), 4)(curve(10.0, 10.0)) == ""


def test_hyperband_ends_some_trials_and_always_the_same(tmp_path: Path) -> None:
    plan = make_plan(pruner="hyperband", trials=24, trial_recipe=RECIPE.model_copy(update={"epochs": 9}))

    def early(cell: Cell) -> Record:
        whole = make_record(cell)
        pruning = Pruning(study_now(), number_of(cell))
        for length in range(1, 9):
            if reason := pruning(whole.curve[:length]):
                return make_record(cell, status="pruned", reason=reason, curve=whole.curve[:length], tune=None)
        return whole

    def study_now() -> Study:
        found = Store.create(folder).find_study(plan.id)
        assert found is not None
        return found

    def number_of(cell: Cell) -> int:
        return [trial.cell for trial in study_now().trials].index(cell.id)

    ends = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (study,), _ = run(folder, [plan], record=early)
        ends.append([(trial.state, len(trial.curve)) for trial in study.trials])
        assert study.best is not None
    assert ends[0] == ends[1]
    assert {state for state, _ in ends[0]} == {"done", "pruned"}
    assert all(length < 9 for state, length in ends[0] if state == "pruned")


def test_asking_depends_on_the_history_alone() -> None:
    study = with_trials(make_plan(), [(10.0, 20.0, 30.0, 40.0)])
    finished = study.model_copy(update={"trials": study.trials[:1]})
    assert ask(finished) == ask(finished)
    other = finished.model_copy(update={"trials": ()})
    assert ask(other) == [make_plan().defaults()]
    assert type(make_pruner("none", 3)).__name__ == "NopPruner"
