from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo import KdzooError
from kdzoo.cell import PROTOCOL, Cell
from kdzoo.recipe import Recipe
from kdzoo.refs import StrategyRef
from kdzoo.space import Range
from kdzoo.study import STUDY_SCHEMA, TRIAL_SEED, TUNER, Study, StudyPlan, Trial, parse_study

SPACE = {"soft.temperature": Range(low=1.0, high=16.0, log=True), "recipe.lr": Range(low=0.001, high=1.0, log=True)}
WINNER = {"soft.temperature": 8.0, "recipe.lr": 0.2}


@pytest.fixture
def make_plan(cell: Cell) -> Callable[..., StudyPlan]:
    def make(**changes: Any) -> StudyPlan:
        values: dict[str, Any] = {
            "data": cell.data,
            "teacher": cell.teacher,
            "student": cell.student,
            "strategy": StrategyRef(
                name="soft", distribution="kdzoo", revision="1", params={"alpha": 0.9, "temperature": 4.0, "mode": "kl"}
            ),
            "recipe": cell.recipe,
            "trial_recipe": cell.recipe.model_copy(update={"epochs": 3}),
            "space": SPACE,
            "trials": 3,
        }
        return StudyPlan(**(values | changes))

    return make


def make_study(plan: StudyPlan, *trials: dict[str, Any]) -> Study:
    """A study whose trials have the given fields; the first one tries the defaults, the others the winner's values."""
    made = []
    for number, fields in enumerate(trials):
        values = {"values": WINNER if number else plan.defaults()} | fields
        made.append(Trial(cell=plan.trial(values["values"]).id, **values))
    return Study(id=plan.id, plan=plan, trials=tuple(made))


def done(*curve: float, seconds: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"state": "done", "curve": curve, "seconds": seconds, **fields}


# Ranges


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low": 2.0, "high": 2.0}, "must rise"),
        ({"low": 3.0, "high": 2.0}, "must rise"),
        ({"low": 0.0, "high": 2.0, "log": True}, "must lie above 0"),
        ({"low": 0.5, "high": 2.0, "whole": True}, "whole ends"),
        ({"low": 1.0, "high": 2.5, "whole": True}, "whole ends"),
        ({"low": float("nan"), "high": 2.0}, "finite"),
        ({"low": 0.0, "high": float("inf")}, "finite"),
    ],
)
def test_a_wrong_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Range(**wrong)


def test_a_range_holds_its_ends_and_no_text() -> None:
    one = Range(low=1.0, high=16.0)
    assert [value in one for value in (1.0, 16, 5.5, 0.999, 17, "5", None)] == [True, True, True, *[False] * 4]


def test_a_range_is_written_as_it_is_given_to_search() -> None:
    assert str(Range(low=0.001, high=10.0, log=True)) == "0.001:10:log"
    assert str(Range(low=1.0, high=4.0, whole=True)) == "1:4"


# Trials


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"state": "done"}, "needs a curve"),
        ({"state": "pruned"}, "a pruned trial needs a reason"),
        ({"state": "failed"}, "a failed trial needs a reason"),
        ({"state": "running"}, "state"),
        ({"seconds": -1.0}, "greater than or equal to 0"),
    ],
)
def test_a_trial_is_complete(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trial(cell="0" * 16, values={}, **fields)


def test_only_a_done_trial_has_an_objective_and_it_is_the_last_epochs() -> None:
    def objective(**fields: Any) -> float | None:
        return Trial(cell="0" * 16, values={}, **fields).score

    assert objective(state="done", curve=(90.0, 70.0)) == 70.0
    assert objective(state="pruned", curve=(90.0,), reason="slow") is None
    assert objective(state="failed", curve=(90.0,), reason="a bug") is None
    assert objective() is None


# The plan


def test_trial_0_tries_the_strategys_own_values(make_plan: Callable[..., StudyPlan]) -> None:
    assert make_plan().defaults() == {"soft.temperature": 4.0, "recipe.lr": 0.05}


@pytest.mark.parametrize("name", ["soft.beta", "at.alpha", "soft.mode", "recipe.name", "recipe.colour", "alpha", ""])
def test_only_numbers_that_are_there_can_be_searched(name: str, make_plan: Callable[..., StudyPlan]) -> None:
    with pytest.raises(ValueError, match="is no number that could be searched"):
        make_plan(space={name: Range(low=0.0, high=1.0)})


@pytest.mark.parametrize("wrong", [{"space": {}}, {"trials": 0}, {"batch": 0}, {"pruner": "best"}])
def test_a_plan_searches_something(wrong: dict[str, Any], make_plan: Callable[..., StudyPlan]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        make_plan(**wrong)


def test_the_id_follows_all_but_the_names_of_recipes(make_plan: Callable[..., StudyPlan], cell: Cell) -> None:
    plan = make_plan()
    named = cell.recipe.model_copy(update={"name": "another"})
    trained = cell.teacher and cell.teacher.model_copy(update={"recipe": named})
    assert make_plan(recipe=named, trial_recipe=named.model_copy(update={"epochs": 3}), teacher=trained).id == plan.id
    slower = cell.recipe.model_copy(update={"lr": 0.01})
    others = [
        make_plan(recipe=slower),
        make_plan(trial_recipe=slower),
        make_plan(space=SPACE | {"soft.alpha": Range(low=0.0, high=1.0)}),
        make_plan(space=SPACE | {"recipe.lr": Range(low=0.001, high=2.0, log=True)}),
        make_plan(trials=4),
        make_plan(batch=2),
        make_plan(pruner="median"),
        make_plan(tuner=plan.tuner + 1),
        make_plan(strategy=plan.strategy.model_copy(update={"revision": "2"})),
    ]
    assert len({plan.id, *(other.id for other in others)}) == len(others) + 1
    assert len(plan.id) == 16


def test_the_cell_of_a_trial(make_plan: Callable[..., StudyPlan], cell: Cell) -> None:
    plan = make_plan()
    trial = plan.trial(WINNER)
    assert (trial.kind, trial.seed) == ("trial", TRIAL_SEED)
    assert trial.strategy.params == {"alpha": 0.9, "temperature": 8.0, "mode": "kl"}
    assert trial.recipe == plan.trial_recipe.model_copy(update={"lr": 0.2})
    assert trial.tuned_from == plan.trial_recipe
    assert (trial.data, trial.teacher, trial.student) == (cell.data, cell.teacher, cell.student)


def test_final_cells_that_no_recipe_value_changed_are_ordinary_ones(
    make_plan: Callable[..., StudyPlan], cell: Cell
) -> None:
    plan = make_plan()
    params = plan.strategy.params | {"temperature": 8.0}
    plain = cell.model_copy(update={"strategy": plan.strategy.model_copy(update={"params": params})})
    assert plan.final({"soft.temperature": 8.0, "recipe.lr": 0.05}, cell.seed).id == plain.id
    tuned = plan.final(WINNER, cell.seed)
    assert tuned.tuned_from == cell.recipe
    assert tuned.id != plain.id


def test_tuning_the_recipe_keeps_the_draws(make_plan: Callable[..., StudyPlan], cell: Cell) -> None:
    """A tuned row and the default one start from the same weights and see the same order."""
    tuned = make_plan().final(WINNER, cell.seed)
    for purpose in ("init", "order"):
        assert tuned.seed_for(purpose) == cell.seed_for(purpose)
        assert make_plan().trial(WINNER).seed_for(purpose) != cell.seed_for(purpose)


# The study


def test_a_study_is_finished_when_every_trial_ended(make_plan: Callable[..., StudyPlan]) -> None:
    plan = make_plan()
    two = [done(50.0), {"state": "failed", "reason": "a bug"}]
    assert not Study(id=plan.id, plan=plan).finished
    assert not make_study(plan, *two).finished
    assert not make_study(plan, *two, {}).finished
    assert make_study(plan, *two, {"state": "pruned", "reason": "slow"}).finished


def test_the_best_is_the_first_of_the_highest_done(make_plan: Callable[..., StudyPlan]) -> None:
    plan = make_plan(trials=4)
    study = make_study(
        plan,
        done(90.0, 60.0),
        done(10.0, 70.0, values=WINNER | {"recipe.lr": 0.3}),
        done(70.0),
        {"state": "pruned", "reason": "slow", "curve": (99.0,)},
    )
    assert study.best == study.trials[1]
    assert study.seconds == 3.0
    assert make_study(plan, {"state": "failed", "reason": "a bug"}).best is None
    assert make_study(plan, done(0.0)).best is not None


def test_finals_are_the_winners_cells_and_only_of_a_finished_study(make_plan: Callable[..., StudyPlan]) -> None:
    plan = make_plan(trials=2)
    assert make_study(plan, done(50.0)).finals(range(3)) == []
    finished = make_study(plan, done(50.0), done(60.0))
    assert finished.finals([0, 4]) == [plan.final(WINNER, 0), plan.final(WINNER, 4)]
    failed = {"state": "failed", "reason": "a bug"}
    assert make_study(plan, failed, failed).finals(range(3)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "0" * 16}, "is not the hash of the plan"),
        ({"trials": 4}, "a study of 3 trials has 4"),
        ({"keys": {"soft.temperature": 4.0}}, "trial 1 does not try what the plan searches"),
        ({"cell": "0" * 16}, "trial 1 names another cell than that of its values"),
        ({"first": WINNER}, "trial 0 does not try the values that the plan begins with"),
    ],
)
def test_a_study_belongs_together(change: dict[str, Any], message: str, make_plan: Callable[..., StudyPlan]) -> None:
    plan = make_plan()
    defaults = plan.defaults()

    def trial(values: dict[str, Any], cell: str = "") -> Trial:
        return Trial(cell=cell or plan.trial(values).id, values=values)

    trials = [trial(change.get("first", defaults)), trial(change.get("keys", WINNER), change.get("cell", ""))]
    trials += [trial(WINNER)] * (change.get("trials", 2) - 2)
    with pytest.raises(ValueError, match=message):
        Study(id=change.get("id", plan.id), plan=plan, trials=tuple(trials))


# Its file


def test_a_study_survives_its_json(make_plan: Callable[..., StudyPlan]) -> None:
    study = make_study(make_plan(), done(50.0, 60.0), {"state": "pruned", "reason": "slow", "curve": (9.0,)}, {})
    text = study.to_json()
    assert (text[-2:], text.count("\n")) == ("}\n", 1)
    assert parse_study(text, "s") == study
    assert parse_study(text.encode(), "s").to_json() == text


def test_a_newer_study_is_refused(make_plan: Callable[..., StudyPlan]) -> None:
    value = json.loads(make_study(make_plan()).to_json()) | {"study_schema": STUDY_SCHEMA + 1, "colour": "red"}
    with pytest.raises(KdzooError, match=rf"^s\.json: written by a newer kdzoo, with study schema {STUDY_SCHEMA + 1};"):
        parse_study(json.dumps(value), "s.json")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], r"not valid JSON \("),
        (lambda _: "[]", "not a kdzoo study"),
        (lambda _: '{"record_schema":2}', "not a kdzoo study"),
        (lambda text: text.replace('"trials":3', '"trials":5'), "is not the hash of the plan"),
        (lambda text: text.replace('"log":true', '"log":1', 1), "valid boolean"),
        (lambda text: text.replace('"state":"asked"', '"state":"done"', 1), "a done trial needs a curve"),
    ],
)
def test_a_damaged_study_is_told(
    damage: Callable[[str], str], message: str, make_plan: Callable[..., StudyPlan]
) -> None:
    with pytest.raises(
        KdzooError,
        match=rf"^s\.json: .*{message}.*; run the same bench again, which sets the file aside and "
        f"makes a new file$",
    ):
        parse_study(damage(make_study(make_plan(), {}).to_json()), "s.json")


KEPT = sorted((Path(__file__).parent / "studies").glob("schema_*.json"))


def test_every_schema_has_a_kept_study() -> None:
    assert [path.stem for path in KEPT] == [f"schema_{number}" for number in range(1, STUDY_SCHEMA + 1)]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_study_of_an_older_version_still_loads(path: Path) -> None:
    # Never edit these files: somebody's studies look like this. Its id is the hash of its plan, or it would not load.
    study = parse_study(path.read_bytes(), path.name)
    assert study.finished
    assert study.best is not None
    assert [trial.state for trial in study.trials] == ["done", "done", "pruned", "failed"]
    assert isinstance(study.finals([0])[0].tuned_from, Recipe)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_later_search_and_protocol_leave_a_study_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = parse_study(path.read_bytes(), path.name)
    cells = [before.plan.trial(trial.values) for trial in before.trials]
    monkeypatch.setattr("kdzoo.study.TUNER", TUNER + 1)
    monkeypatch.setattr("kdzoo.cell.PROTOCOL", PROTOCOL + 1)
    study = parse_study(path.read_bytes(), path.name)
    assert study == before
    assert [study.plan.trial(trial.values) for trial in study.trials] == cells
    assert study.finals([0])[0].protocol == before.plan.protocol
    assert Cell(**(dict(cells[0]) | {"protocol": PROTOCOL})) == cells[0]
    assert Cell(**{name: value for name, value in cells[0] if name != "protocol"}).protocol == PROTOCOL + 1


def test_a_plan_that_names_no_version_is_of_the_first_one(make_plan: Callable[..., StudyPlan]) -> None:
    plan = make_plan()
    assert (plan.tuner, plan.protocol) == (1, 1)
    assert make_plan(protocol=2).id != plan.id
    assert make_plan(protocol=2).final(WINNER, 0).protocol == 2


# What a pruner may end


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_trial_that_a_pruner_may_end_is_its_studys_own(pruner: str, make_plan: Callable[..., StudyPlan]) -> None:
    unpruned = make_plan(tuner=2)
    pruned, longer = make_plan(tuner=2, pruner=pruner), make_plan(tuner=2, pruner=pruner, trials=9)
    assert [plan.trial(WINNER).study for plan in (unpruned, pruned, longer)] == ["", pruned.id, longer.id]
    assert len({plan.trial(WINNER).id for plan in (unpruned, pruned, longer)}) == 3
    assert pruned.final(WINNER, 0) == unpruned.final(WINNER, 0)
    assert pruned.trial(WINNER).seed_for("order") == unpruned.trial(WINNER).seed_for("order")


def test_trials_without_a_pruner_and_of_the_first_search_keep_their_cells(make_plan: Callable[..., StudyPlan]) -> None:
    first = make_plan().trial(WINNER)
    assert first.study == ""
    assert "study" not in first.identity()
    assert make_plan(pruner="median").trial(WINNER) == make_plan(tuner=2, trials=9).trial(WINNER) == first


def test_only_a_trial_belongs_to_a_study(cell: Cell) -> None:
    with pytest.raises(ValueError, match="only a trial belongs to a study"):
        Cell(**(dict(cell) | {"study": "0" * 16}))


# As many trials as there are settings


def whole(low: float, high: float) -> Range:
    return Range(low=low, high=high, whole=True)


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        ({"fitnets.stage": whole(0, 3)}, 4),
        ({"fitnets.stage": whole(2, 3)}, 3),  # trial 0 tries 1, which lies outside
        ({"fitnets.stage": whole(0, 3), "fitnets.depth": whole(1, 5)}, 20),
        ({"fitnets.stage": whole(0, 3), "fitnets.depth": whole(7, 8)}, 9),
        ({"fitnets.stage": whole(0, 3), "recipe.lr": Range(low=0.1, high=0.2)}, None),
        ({"fitnets.stage": whole(0, 10**300)}, 10**300 + 1),
    ],
)
def test_the_number_of_settings_bounds_that_of_trials(
    space: dict[str, Range], settings: int | None, make_plan: Callable[..., StudyPlan]
) -> None:
    strategy = StrategyRef(name="fitnets", distribution="kdzoo", revision="1", params={"stage": 1, "depth": 3})
    plan = make_plan(strategy=strategy, space=space, trials=15, tuner=2)
    if settings is not None and settings > 10**200:
        assert abs((plan.settings or 0) / settings - 1) < 1e-9
    else:
        assert plan.settings == settings
    assert plan.length == min(15, settings or 15)
    assert plan.model_copy(update={"tuner": 1}).length == 15


def test_a_study_of_few_settings_is_finished_with_all_of_them(make_plan: Callable[..., StudyPlan]) -> None:
    strategy = StrategyRef(name="fitnets", distribution="kdzoo", revision="1", params={"stage": 1})
    plan = make_plan(strategy=strategy, space={"fitnets.stage": whole(0, 2)}, trials=15, tuner=2)
    trials = [done(50.0, values={"fitnets.stage": stage}) for stage in (1, 0, 2)]
    study = make_study(plan, *trials)
    assert (study.finished, study.exhausted, study.different) == (True, True, 3)
    assert study.best is not None
    assert not make_study(plan, *trials[:2]).finished
    with pytest.raises(ValueError, match="a study of 3 trials has 4"):
        make_study(plan, *trials, trials[0])


def test_what_repeats_is_counted_and_paid_once(make_plan: Callable[..., StudyPlan]) -> None:
    study = make_study(make_plan(), done(50.0, seconds=2.0), done(60.0, seconds=3.0), done(60.0, seconds=3.0))
    assert (study.different, study.seconds, study.exhausted) == (2, 5.0, False)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0 + 1e-12), (-1e6 - 1e-6, -1e6), (1e300, 1.0000000001e300)])
def test_a_range_that_holds_no_thousand_values_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="is too narrow to search"):
        Range(low=low, high=high)


@pytest.mark.parametrize("name", ["tuner", "protocol"])
def test_the_versions_of_a_plan_begin_with_1(name: str, make_plan: Callable[..., StudyPlan]) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        make_plan(**{name: 0})
    value = json.loads(make_study(make_plan()).to_json()) | {"study_schema": 0}
    with pytest.raises(KdzooError, match=r"^s\.json: study_schema: input should be greater than or equal to 1"):
        parse_study(json.dumps(value), "s.json")
