from __future__ import annotations

import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from folders import (
    RECIPE,
    blank_drawings,
    finals,
    make_cell,
    make_failure,
    make_folder,
    make_record,
    make_rows,
    make_store,
    make_study,
    make_teacher,
    make_tuned,
    measures,
    with_teachers,
)
from typer.testing import CliRunner, Result
from waiting import output_of

from kdzoo import Batch
from kdzoo.cell import PROTOCOL
from kdzoo.cli import app
from kdzoo.drawing import drawer
from kdzoo.errors import UsageError
from kdzoo.jsontext import sealed, unsealed
from kdzoo.leaderboard.check.published import check_leaderboard, content_faults, drawing_fault
from kdzoo.leaderboard.check.records import better_than_chance, plan_reasons, remarks, trial_reasons
from kdzoo.leaderboard.layout import path_of_record
from kdzoo.leaderboard.page.chartcode import END, START
from kdzoo.recipe import Augment
from kdzoo.record import EVALUATION, Record, parse_record
from kdzoo.record_parts import Epoch, Size
from kdzoo.refs import StrategyRef
from kdzoo.space import Range
from kdzoo.study import TRIAL_SEED, TUNER, Study, StudyPlan, Trial, parse_study

PAIR = "records/digits/resnet10t--test_resnet"


def faults(records: Sequence[Record], studies: Sequence[Study] = ()) -> list[str]:
    return [str(fault) for fault in content_faults(records, studies)]


def only_fault(records: Sequence[Record], studies: Sequence[Study] = ()) -> str:
    found = faults(records, studies)
    assert len(found) == 1, found
    return found[0]


def at(record: Record) -> str:
    return f"{PAIR}/{record.id}.json: "


@pytest.fixture
def good() -> list[Record]:
    """One pair, ce and soft, two seeds each, and the teacher's training."""
    return with_teachers(make_rows({"ce": [900, 901], "soft": [910, 911]}))


def replaced(records: Sequence[Record], place: int, **changes: Any) -> tuple[list[Record], Record]:
    """The records with one of them changed, and that one."""
    changed = records[place].model_copy(update=changes)
    return [changed if number == place else record for number, record in enumerate(records)], changed


def test_good_records_have_no_fault(good: list[Record]) -> None:
    assert faults(good) == []
    assert faults(*make_tuned()) == []


# One record


def curve_to(record: Record, top1: float) -> tuple[Epoch, ...]:
    """The record's curve with another end."""
    return (*record.curve[:-1], record.curve[-1].model_copy(update={"tune": {"top1": top1}}))


def teacher_of(record: Record, **changes: Any) -> dict[str, Any]:
    assert record.teacher is not None
    return {"teacher": record.teacher.model_copy(update=changes)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: {"test": measures(910, 999)}, "measured test with 999 samples, and the dataset has 1,000"),
        (
            lambda one: {"tune": measures(910, 499), "curve": curve_to(one, measures(910, 499)["top1"])},
            "measured tune with 499 samples, and the dataset has 500",
        ),
        (
            lambda one: {"curve": curve_to(one, 91.2)},
            "ends its curve with top-1 91.2000% on tune, and measured 91.0000%",
        ),
        (lambda one: {"test": measures(100)}, "is not above chance: top-1 10.00% on test, with 10 classes"),
        (lambda one: {"curve": one.curve[:1]}, "has a curve of 1 lines, and its recipe 2 epochs"),
        (lambda one: {"curve": one.curve[::-1]}, "has a curve of 2 lines, and its recipe 2 epochs"),
        (lambda one: {"evaluation": EVALUATION + 1}, "was made by a newer kdzoo"),
        (lambda one: {"traceback": "File x"}, "holds a traceback or local paths; bring it here with `kdzoo publish`"),
        (lambda one: {"command": "kdzoo bench --out runs"}, "holds a traceback or local paths"),
        (
            lambda one: {"family": "/home/ann/models"},
            "names a local path, '/home/ann/models'; kdzoo bench names models and data of a folder by their content",
        ),
    ],
)
def test_a_wrong_record_is_told(change: Callable[[Record], dict[str, Any]], reason: str, good: list[Record]) -> None:
    records, wrong = replaced(good, 3, **change(good[3]))
    found = [line for line in faults(records) if line.startswith(at(wrong))]
    assert len(found) == 1
    assert found[0].startswith(at(wrong) + reason)


def test_a_failed_record_needs_no_measures(good: list[Record]) -> None:
    assert faults([*good[:3], make_failure(good[3].cell), good[4]]) == []


def test_a_trial_is_no_record_to_publish(good: list[Record]) -> None:
    trial = make_record(make_study("soft", [50.0]).plan.trial({"soft.temperature": 4.0}))
    assert only_fault([*good, trial]).startswith(at(trial) + "is a trial of tuning")


def test_the_seed_of_trials_trains_no_student(good: list[Record]) -> None:
    stray = make_record(make_cell("soft", TRIAL_SEED))
    assert at(stray) + "has the seed 1000000, which belongs to the trials of tuning and the rungs of races" in faults(
        [*good, stray]
    )


def test_the_bound_of_chance() -> None:
    """Of 900 guesses of one of ten classes 113 or more are right in 0.75 % of cases, 112 or more in 1.0003 %."""
    assert not better_than_chance(measures(900, 900) | {"top1": 100 * 112 / 900}, 10)
    assert better_than_chance(measures(900, 900) | {"top1": 100 * 113 / 900}, 10)


@pytest.mark.parametrize("n", [1, 4, 6, 9, 60])
def test_a_perfect_teacher_is_never_at_chance(n: int) -> None:
    assert better_than_chance(measures(900, n) | {"top1": 100.0}, 2)
    assert not better_than_chance(measures(900, n) | {"top1": 100 * (n // 2) / n}, 2)


def test_older_evaluations_are_remarked_and_no_fault(good: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdzoo.leaderboard.check.records.EVALUATION", 2)
    assert faults(good) == []
    assert remarks([*good, *(record.model_copy(update={"evaluation": 2}) for record in make_rows({"ce": [900]}))]) == [
        "records of evaluation 1, marked on the board and not mixed with today's 2: 5"
    ]


def test_a_later_kdzoo_finds_no_fault_in_what_is_published_today(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its protocol and its search are newer; what it reads is not."""
    records, studies = make_tuned()
    for place in ("cell", "needed", "leaderboard.check.records", "bench.plan"):
        monkeypatch.setattr(f"kdzoo.{place}.PROTOCOL", PROTOCOL + 1)
    for place in ("study", "leaderboard.check.studies"):
        monkeypatch.setattr(f"kdzoo.{place}.TUNER", TUNER + 1)
    again = [parse_record(record.to_json(), "r") for record in records]
    assert (again, faults(again, [parse_study(study.to_json(), "s") for study in studies])) == (records, [])
    assert len(remarks(again)) == 1


# Rows, pairs, teachers


def test_a_pair_needs_its_baseline(good: list[Record]) -> None:
    without = [record for record in good if record.cell.strategy.name != "ce" or record.cell.kind == "teacher"]
    assert (
        only_fault(without) == f"{PAIR}: has no ce row under the recipe quick, evaluation 1: the pair has no baseline"
    )


def test_a_baseline_that_failed_is_none(good: list[Record]) -> None:
    failed = [make_failure(record.cell) for record in good[:2]]
    assert (
        only_fault([*failed, *good[2:]]) == f"{PAIR}: has no ce seed that is done under the recipe quick, evaluation 1"
    )
    assert faults([make_failure(record.cell) for record in good[:4]]) == []


def test_every_recipe_needs_a_baseline_of_its_own(good: list[Record]) -> None:
    longer = make_rows({"soft": [910, 911]}, recipe=RECIPE.model_copy(update={"name": "long", "epochs": 4}))
    assert "has no ce row under the recipe long" in only_fault([*good, *longer])


def test_evaluations_are_not_mixed(good: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    newer = good[2].model_copy(update={"evaluation": 2})
    monkeypatch.setattr("kdzoo.leaderboard.check.records.EVALUATION", 2)
    found = faults([*good[:2], newer, *good[3:]])
    assert ["has no ce row under the recipe quick, evaluation 2" in line for line in found] == [
        True,
        False,
    ]
    assert "soft alpha=0.9 temperature=4: 1 seeds" in found[1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"ce": (0, 1), "soft": (0,)}, "soft alpha=0.9 temperature=4: 1 seeds under the recipe quick"),
        ({"ce": (0, 1), "soft": (0, 2)}, "2 seeds under the recipe quick, evaluation 1, without 1"),
        ({"ce": (1, 2), "soft": (0, 1)}, "ce: 2 seeds under the recipe quick, evaluation 1, without 0"),
        ({"ce": tuple(range(9)), "soft": (10**15,)}, "without 0, 1, 2, 3, 4, ...;"),
    ],
)  # fmt: skip
def test_rows_are_whole(rows: dict[str, tuple[int, ...]], words: str) -> None:
    records = [make_record(make_cell(strategy, seed)) for strategy, seeds in rows.items() for seed in seeds]
    assert words in only_fault(with_teachers(records))


def test_a_row_may_have_more_seeds_than_the_baseline(good: list[Record]) -> None:
    assert faults([*good, make_record(make_cell("soft", 2))]) == []


def test_one_teacher_taught_all(good: list[Record]) -> None:
    other = teacher_of(good[3], test=measures(981))
    records, odd = replaced(good, 3, **other)
    reason = only_fault(records)
    assert reason == (f"{at(odd)}had another teacher than {good[0].id}, under the same name: test.top1 98.0 and 98.1")


@pytest.mark.parametrize(("name", "off"), [("nll", 1e-9), ("nll", 9e-5), ("ece", 9e-5)])
def test_a_teacher_that_was_measured_elsewhere_may_differ_in_rounding(
    name: str, off: float, good: list[Record]
) -> None:
    assert good[3].teacher is not None
    test = good[3].teacher.test
    near = test | {name: test[name] + off}
    one, _ = replaced(good, 3, **teacher_of(good[3], test=near))
    two, _ = replaced(one, 2, **teacher_of(good[2], test=near))
    assert faults(one) == faults(two) == []
    far = test | {name: test[name] + 2e-4}
    records, odd = replaced(good, 3, **teacher_of(good[3], test=far))
    assert only_fault(records).startswith(f"{at(odd)}had another teacher than {good[0].id}")
    assert only_fault(records).endswith(f": test.{name} {test[name]!r} and {far[name]!r}")


def test_a_teacher_of_another_size_is_another(good: list[Record]) -> None:
    records, _ = replaced(good, 3, **teacher_of(good[3], size=Size(parameters=5_000_001, macs=4000)))
    assert only_fault(records).endswith(": size.parameters 5000000 and 5000001")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"test": measures(981)}, "test.top1 98.0 and 98.1"),
        ({"student": Size(parameters=5_000_001, macs=4000)}, "size.parameters 5000000 and 5000001"),
        ({"test": measures(980) | {"nll": 0.5002}}, "test.nll 0.5 and 0.5002"),
        ({"test": measures(980) | {"nll": 0.50009}}, ""),
    ],
)
def test_a_training_made_the_teacher_that_its_students_saw(
    changes: dict[str, Any], told: str, good: list[Record]
) -> None:
    records, training = replaced(good, 4, **changes)
    reason = f"{path_of_record(training)}: differs from the teacher that {good[0].id} and others measured: {told}"
    assert faults(records) == ([reason] if told else [])
    # What another evaluation measured is not compared.
    newer = [training.model_copy(update={"evaluation": 0}) if one is training else one for one in records]
    assert faults(newer) == []


def test_the_seeds_of_a_row_are_students_of_one_size(good: list[Record]) -> None:
    records, _ = replaced(good, 3, student=Size(parameters=400_001, macs=1000))
    assert only_fault(records) == (
        f"{PAIR}: soft alpha=0.9 temperature=4: its seeds under the recipe quick, evaluation 1 are students of "
        "different size: 400,000 parameters, 1,000 MACs and 400,001 parameters, 1,000 MACs"
    )


def test_a_teacher_at_chance_taught_nothing() -> None:
    rows = make_rows({"ce": [900]})
    ignorant = rows[0].model_copy(update=teacher_of(rows[0], test=measures(120)))
    _, training = with_teachers(rows)
    found = only_fault([ignorant, training.model_copy(update={"test": measures(120)})])
    assert "has a teacher no better than chance: top-1 12.00% on test" in found


def test_the_training_of_a_teacher_is_there_and_done(good: list[Record]) -> None:
    reason = f"{PAIR}: lacks the training of its teacher resnet10t, {good[4].id}; publish it from its runs"
    assert only_fault(good[:4]) == reason
    assert only_fault([*good[:4], make_failure(good[4].cell)]) == reason
    from_a_file = make_teacher(weights="file", recipe=None, strategy=None, seed=None, digest="0")
    elsewhere = make_rows({"ce": [900]}, teacher=from_a_file)
    assert faults(elsewhere) == []


# Tuning


def soft(scores: Sequence[float | None] = (50.0, 60.0, 70.0), **changes: Any) -> Study:
    return make_study("soft", scores, **changes)


def test_a_winner_is_trained(good: list[Record]) -> None:
    study = soft()
    where = f"{PAIR}/studies/{study.id}.json: "
    assert (
        only_fault(good, [study])
        == where + "found values for soft that have no record here; train and publish its winner"
    )
    assert faults([*good, *finals(study, [930, 931])], [study]) == []


def test_a_winner_that_is_the_default_needs_no_other_row(good: list[Record]) -> None:
    assert faults(good, [soft([90.0, 60.0])]) == []


def test_a_study_without_a_winner_is_no_fault(good: list[Record]) -> None:
    study = soft([None, None])
    assert study.best is None
    assert faults(good, [study]) == []


def test_a_study_is_finished(good: list[Record]) -> None:
    study = soft()
    part = study.model_copy(update={"trials": study.trials[:2]})
    assert only_fault(good, [part]) == f"{PAIR}/studies/{study.id}.json: is not finished: 2 of 3 trials ended"


def test_another_trials_values_are_no_winner(good: list[Record]) -> None:
    """Trial 1 may do better on test than the winner: it must not be shown in its place."""
    study = soft([50.0, 60.0, 70.0, 65.0])
    picked = [make_record(study.plan.final(study.trials[3].values, seed)) for seed in range(2)]
    found = faults([*good, *finals(study, [930, 931]), *picked], [study])
    words = f"has the values of trial 3 of study {study.id}, which is not its best one (2)"
    assert found == sorted(at(record) + words for record in picked)


def test_parameters_that_were_set_by_hand_are_shown_and_no_fault(good: list[Record]) -> None:
    by_hand = make_rows({"soft": [905, 906]}, params={"alpha": 0.5, "temperature": 3.0})
    study = soft()
    assert faults([*good, *finals(study, [930, 931]), *by_hand], [study]) == []


def tuned_recipe(strategy: str, scores: Sequence[float]) -> Study:
    return make_study(strategy, scores, space={"recipe.lr": Range(low=0.001, high=1.0, log=True)})


def test_a_tuned_recipe_has_the_study_that_found_it(good: list[Record]) -> None:
    studies = [tuned_recipe("ce", [50.0, 51.0, 52.0]), tuned_recipe("soft", [50.0, 51.0, 52.0])]
    winners = [record for study in studies for record in finals(study, [920, 921])]
    assert faults([*good, *winners], studies) == []
    assert all(record.cell.tuned_from == RECIPE for record in winners)
    words = "its recipe is said to be tuned, and no finished study here found these values"
    found = faults([*good, *winners])
    assert len(found) == 4
    assert all(words in line for line in found)


def test_only_searched_keys_of_a_recipe_may_change(good: list[Record]) -> None:
    studies = [tuned_recipe("ce", [50.0, 51.0]), tuned_recipe("soft", [50.0, 51.0])]
    winners = [record for study in studies for record in finals(study, [920, 921])]
    smuggled = RECIPE.model_copy(update={"lr": 0.1, "weight_decay": 0.1})
    rows = [make_record(make_cell("soft", seed, recipe=smuggled, tuned_from=RECIPE)) for seed in range(2)]
    found = faults([*good, *winners, *rows], studies)
    words = "has another recipe.weight_decay than its recipe before tuning, which no study searched"
    assert found == sorted(at(record) + words for record in rows)


def budgets(first: Study, second: Study) -> list[str]:
    records = make_rows({"ce": [900], "soft": [910], "fitnets": [905]})
    winners = [record for study in (first, second) for record in finals(study, [930])]
    return faults(with_teachers([*records, *winners]), [first, second])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 3}, "(fitnets 3 trials; soft 2 trials)"),
        ({"pruner": "median"}, "(fitnets median pruner; soft no pruner)"),
        ({"trial_recipe": RECIPE}, "(fitnets 2 epochs a trial; soft 1 epoch a trial)"),
        ({"batch": 2}, "(fitnets 2 at a time; soft 1 at a time)"),
        ({"tuner": 2}, "(fitnets search 2; soft search 1)"),
    ],
)
def test_every_strategy_has_the_same_budget(changes: dict[str, Any], words: str) -> None:
    scores = [50.0, 60.0, 55.0][: changes.pop("trials", 2)]
    (fault,) = budgets(soft([50.0, 60.0]), make_study("fitnets", scores, **changes))
    assert fault.startswith(f"{PAIR}/studies: has studies on different budgets {words}: tune ")
    assert "another --out and published with another --to" in fault


def test_equal_budgets_are_equal_whatever_the_recipe_is_called() -> None:
    renamed = RECIPE.model_copy(update={"name": "short", "epochs": 1})
    assert budgets(soft([50.0, 60.0]), make_study("fitnets", [50.0, 60.0], trial_recipe=renamed)) == []


def test_two_studies_of_one_strategy_are_twice_the_budget() -> None:
    one = soft([50.0, 60.0])
    two = soft([50.0, 70.0], space={"soft.temperature": Range(low=1.0, high=9.0)})
    other = make_study("fitnets", [50.0, 60.0])
    records = make_rows({"ce": [900], "soft": [910], "fitnets": [905]})
    winners = [record for study in (one, other) for record in finals(study, [930])]
    found = faults(with_teachers([*records, *winners]), [one, two, other])
    assert len(found) == 1
    assert "(fitnets 2 trials; soft 2 trials and 2 trials)" in found[0]


def test_a_tuned_recipe_is_tuned_for_all_alike() -> None:
    lr, decay = (
        {"recipe.lr": Range(low=0.001, high=1.0)},
        {"recipe.weight_decay": Range(low=1e-5, high=0.1), "recipe.lr": Range(low=0.001, high=1.0)},
    )
    found = budgets(soft([50.0, 60.0], space=lr), make_study("fitnets", [50.0, 60.0], space=decay))
    assert found == [
        f"{PAIR}/studies: has studies that search different keys or ranges of the recipe",
        f"{PAIR}/studies: has studies that search the recipe, and none of ce, which must be tuned alike",
    ]


def test_a_study_tries_what_it_searches(good: list[Record]) -> None:
    study = soft([50.0, 60.0])
    plan = StudyPlan(**(dict(study.plan) | {"space": {"soft.temperature": Range(low=5.0, high=6.0)}}))
    outside = study.trials[1].model_copy(update={"values": {"soft.temperature": 8.0}})
    outside = outside.model_copy(update={"cell": plan.trial(outside.values).id})
    wrong = Study(id=plan.id, plan=plan, trials=(study.trials[0], outside))
    found = faults([*good, *finals(wrong, [930, 931])], [wrong])
    assert found == [f"{PAIR}/studies/{wrong.id}.json: trial 1 tried soft.temperature outside of its range"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"trial_recipe": RECIPE.model_copy(update={"epochs": 1, "lr": 0.5})},
            "has trials of another recipe than its winner's; only the epochs may differ",
        ),
        (
            {"trial_recipe": RECIPE.model_copy(update={"epochs": 1, "augment": Augment(flip=True)})},
            "has trials of another recipe than its winner's; only the epochs may differ",
        ),
        (
            {"space": {f"soft.{name}": Range(low=1.0, high=16.0) for name in ("alpha", "temperature", *"abcd")}},
            "searches 6 parameters of soft, and at most 5 may be",
        ),
        (
            {"space": {"recipe.epochs": Range(low=1, high=9, whole=True)}},
            "searches epochs of the recipe; only lr, weight_decay, momentum, label_smoothing may be searched",
        ),
        (
            {"space": {"recipe.batch_size": Range(low=1, high=99, whole=True)}},
            "searches batch_size of the recipe; only lr, weight_decay, momentum, label_smoothing may be searched",
        ),
        (
            {"space": {"soft.temperature": Range(low=1, high=9, whole=True)}},
            "searches soft.temperature with the wrong type: whole numbers or others",
        ),
    ],
)
def test_a_plan_is_one_that_a_bench_makes(changes: dict[str, Any], reason: str) -> None:
    params = {"alpha": 0.9, "temperature": 4.0} | dict.fromkeys("abcd", 1.0)
    strategy = StrategyRef(name="soft", distribution="kdzoo", revision="1", params=params)
    plan = StudyPlan(**(dict(soft([50.0]).plan) | {"strategy": strategy} | changes))
    assert list(plan_reasons(plan)) == [reason]
    assert list(plan_reasons(StudyPlan(**(dict(soft([50.0]).plan) | {"strategy": strategy})))) == []


NAN = (
    "the term 'kl' was NaN or infinite from step 3 of 9 on in epoch 1 (phase main); lower the learning rate "
    "(recipe.lr) or the weight of the term, or set recipe.clip_grad"
)
THREE = RECIPE.model_copy(update={"epochs": 3})


@pytest.mark.parametrize(
    ("pruner", "change", "reason"),
    [
        ("none", {"curve": (9.0,)}, "trial 1 is done with a curve of 1 epochs, and a trial has 3"),
        ("none", {"curve": (9.0,) * 300}, "trial 1 is done with a curve of 300 epochs, and a trial has 3"),
        ("none", {"seconds": 0.0}, "trial 1 is done and took no time"),
        (
            "none",
            {"state": "failed", "reason": "x", "curve": (9.0,) * 4},
            "trial 1 has a curve of 4 epochs, and a trial has 3",
        ),
        (
            "median",
            {"state": "pruned", "reason": "median pruner, after epoch 3 of 3"},
            "trial 1 was pruned with a curve of 3 epochs, and a trial has 3",
        ),
        (
            "none",
            {"state": "pruned", "reason": "median pruner, after epoch 1 of 3", "curve": (9.0,)},
            "trial 1 was pruned, and its reason is none that a loss that is not finite gives: "
            "median pruner, after epoch 1 of 3",
        ),
        (
            "none",
            {"state": "pruned", "reason": "looked bad", "curve": (9.0,)},
            "trial 1 was pruned, and its reason is none that a loss that is not finite gives: looked bad",
        ),
        (
            "median",
            {"state": "pruned", "reason": "hyperband pruner, after epoch 1 of 3", "curve": (9.0,)},
            "trial 1 was pruned, and its reason is none that the median pruner or a loss that is not finite gives: "
            "hyperband pruner, after epoch 1 of 3",
        ),
        (
            "none",
            {"state": "pruned", "reason": NAN, "curve": (9.0, 9.0)},
            f"trial 1 was pruned, and its reason is none that a loss that is not finite gives: {NAN}",
        ),
        (
            "none",
            {"values": {"soft.temperature": 8}},
            "trial 1 tried soft.temperature in another type than its default's",
        ),
        ("none", {"state": "pruned", "reason": NAN, "curve": (9.0,)}, None),
        ("median", {"state": "pruned", "reason": NAN, "curve": (9.0,)}, None),
        ("median", {"state": "pruned", "reason": "median pruner, after epoch 1 of 3", "curve": (9.0,)}, None),
        ("none", {"state": "failed", "reason": "out of memory", "curve": (), "seconds": 0.0}, None),
    ],
)
def test_a_trial_is_one_that_a_search_gives(pruner: str, change: dict[str, Any], reason: str | None) -> None:
    base = soft([50.0, 60.0])
    plan = StudyPlan(**(dict(base.plan) | {"trial_recipe": THREE, "pruner": pruner}))
    trials = []
    for number, trial in enumerate(base.trials):
        values = {**dict(trial), "curve": (9.0, 9.0, 9.0), **(change if number == 1 else {})}
        trials.append(Trial(**(values | {"cell": plan.trial(values["values"]).id})))
    study = Study(id=plan.id, plan=plan, trials=tuple(trials))
    assert list(trial_reasons(study)) == ([] if reason is None else [reason])


def test_what_the_engine_says_of_a_loss_that_is_not_finite_is_known() -> None:
    import torch

    from kdzoo.engine.course import Tally
    from kdzoo.engine.evaluate import evaluate
    from kdzoo.errors import NonFiniteLossError

    tally = Tally()
    tally.add({"kl": torch.tensor(float("nan"))})
    one = torch.zeros(1, dtype=torch.int64)
    batch = Batch(inputs=torch.ones(1, 2), labels=one, index=one, targets=one)
    told = []
    for raises in (lambda: tally.means(1, "epoch 0 (phase main)"), lambda: evaluate(lambda x: x / 0, [batch])):
        with pytest.raises(NonFiniteLossError) as caught:
            raises()
        told.append(str(caught.value))
    plan = soft([50.0]).plan
    values = plan.defaults()
    for reason in told:
        trial = Trial(cell=plan.trial(values).id, values=values, state="pruned", reason=reason)
        assert list(trial_reasons(Study(id=plan.id, plan=plan, trials=(trial,)))) == []


def test_a_search_of_today_tries_nothing_twice_and_an_older_one_alike() -> None:
    twice = [50.0, 60.0, 60.0]
    today, older = (soft(twice, tuner=tuner) for tuner in (2, 1))
    for study in (today, older):
        again = study.trials[1]
        repeated = study.model_copy(update={"trials": (study.trials[0], again, again)})
        told = ["trial 2 tries what trial 1 tried"] if study.plan.tuner > 1 else []
        assert list(trial_reasons(repeated)) == told
    other = older.trials[1].model_copy(update={"curve": (61.0,)})
    odd = older.model_copy(update={"trials": (older.trials[0], older.trials[1], other)})
    assert list(trial_reasons(odd)) == ["trial 2 is the training of trial 1, and ended otherwise"]


def test_a_study_of_a_newer_kdzoo_or_with_paths_is_told(good: list[Record]) -> None:
    newer = soft([90.0, 60.0], tuner=TUNER + 1)
    assert "was made by a newer kdzoo" in only_fault(good, [newer])
    failed = soft([90.0, None])
    trials = (failed.trials[0], failed.trials[1].model_copy(update={"reason": "cannot read /home/ada/x"}))
    assert "holds local paths" in only_fault(good, [failed.model_copy(update={"trials": trials})])


# The folder and the command line


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("published") / "board", *make_tuned())


@pytest.fixture
def board(first: Path, tmp_path: Path) -> Path:
    """A published folder that passes."""
    return Path(shutil.copytree(first, tmp_path / "board"))


def check(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["check", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_good_folder_passes(board: Path) -> None:
    result = check(board)
    assert (result.exit_code, result.stdout) == (0, "16 records and 2 studies: no faults\n")


@pytest.mark.parametrize("name", ["board.md", "board.csv", "board.json", "board.tex", "board.html"])
def test_a_number_that_was_changed_is_found(name: str, board: Path) -> None:
    path = board / "digits" / name
    text = path.read_text()
    assert "93.2" in text
    path.write_text(text.replace("93.2", "94.2", 1))
    result = check(board)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "1 generated file is not what the records give: a record may have been changed or removed, so first compare "
        f"{board / 'records'} with version control; if the records are right, "
        f"`kdzoo publish --refresh --to {board}` regenerates the files",
        f"digits/{name}: differs from what the records give",
        "16 records and 2 studies: 1 fault",
    ]


def test_a_record_that_was_changed_shows_in_every_file(board: Path) -> None:
    path = next(path for path in board.rglob("*--*/*.json") if '"name":"soft"' in path.read_text())
    text = path.read_text().replace('"top1":93', '"top1":94')
    path.write_text(text)
    assert "its contents do not fit its SHA-256" in check(board).stdout
    body, fits = unsealed(text.encode())
    assert fits is False
    path.write_text(sealed(json.loads(body)))  # on purpose: nothing but the made files can tell
    output = check(board).stdout
    told = {line.partition(":")[0] for line in output.splitlines()}
    assert {"index.md", "digits/board.md", "digits/board.csv", "digits/board.html", "digits/plots/forest.svg"} <= told
    # What it may mean is told first, and once.
    assert output.splitlines()[0].split(":")[1].startswith(" a record may have been changed")
    assert output.count("--refresh") == 1


@pytest.mark.parametrize("name", ["index.md", "index.html", "digits/board.tex", "digits/plots/forest.png"])
def test_a_missing_file_is_found(name: str, board: Path) -> None:
    (board / name).unlink()
    assert f"{name}: is missing" in check(board).stdout.splitlines()
    (board / name).mkdir()
    assert f"{name}: is" in check(board).stdout


@pytest.mark.parametrize("name", ["other/board.md", "digits/plots/accuracy-parameters-9.svg", "digits/plots/x.png"])
def test_a_file_that_these_records_do_not_give_is_found(name: str, board: Path) -> None:
    (board / name).parent.mkdir(exist_ok=True)
    (board / name).write_text("x")
    assert f"{name}: is not made from these records" in check(board).stdout


def test_the_library_of_a_page_is_this_installations(board: Path) -> None:
    page = board / "digits" / "board.html"
    text = page.read_text()
    start = text.index(">", text.index("<script", text.index(START))) + 1
    page.write_text(text[:start] + "alert(1);" + text[start:])
    told = check(board).stdout.splitlines()[1]
    assert told.startswith("digits/board.html: ")
    page.write_text(text[: text.index(START)] + f"{START}\n{END}" + text[text.index(END) + len(END) :])
    assert check(board).stdout.splitlines()[1].startswith("digits/board.html: ")


CHART = {"mark": "point", "data": {"values": [{"x": 1}]}, "encoding": {"x": {"field": "x", "type": "quantitative"}}}


@pytest.fixture(scope="module")
def drawings() -> dict[str, bytes]:
    from kdzoo.drawing import png, svg

    return {".svg": svg(CHART), ".png": png(CHART)}


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_drawing_is_known_by_what_it_was_drawn_from(suffix: str, drawings: dict[str, bytes]) -> None:
    drawing = drawings[suffix]
    assert drawing_fault(drawing, CHART, suffix) == ""
    assert drawing_fault(drawing, CHART | {"mark": "line"}, suffix) == "was drawn from other records"
    assert drawing_fault(drawing, CHART, {".svg": ".png", ".png": ".svg"}[suffix]).startswith("is no ")
    assert drawing_fault(drawing[:60], CHART, suffix) != ""
    assert drawing_fault(b"", CHART, suffix) != ""


def test_a_plot_shows_what_its_digest_says(board: Path) -> None:
    """Labels exchanged in an SVG, and pixels in a PNG, under the digest of the right records."""
    plots = board / "digits" / "plots"
    swapped = (plots / "forest.svg").read_text()
    assert swapped.count(">soft (tuned)<") == swapped.count(">fitnets (tuned)<") == 1
    swapped = swapped.replace(">soft (tuned)<", ">@<").replace(">fitnets (tuned)<", ">soft (tuned)<")
    (plots / "forest.svg").write_text(swapped.replace(">@<", ">fitnets (tuned)<"))
    right, other = ((plots / f"{name}.png").read_bytes() for name in ("forest", "accuracy-parameters"))
    header, origin = 8 + 25, 12 + int.from_bytes(right[33:37], "big")
    assert right[header + 4 : header + 8] == b"tEXt"
    (plots / "forest.png").write_bytes(other[:header] + right[header : header + origin] + other[header + origin :])
    assert [str(fault) for fault in check_leaderboard(board).faults] == [
        "digits/plots/forest.png: does not show these records",
        "digits/plots/forest.svg: does not show these records",
    ]


def test_a_plot_that_another_version_drew_is_remarked(board: Path) -> None:
    path = board / "digits" / "plots" / "forest.svg"
    text = path.read_text()
    path.write_text(text.replace(drawer(), "vl-convert 0.1, letters of old").replace(">soft", ">soft "))
    result = check(board)
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            f"remark: plots not compared: 1 drawn by vl-convert 0.1, letters of old, and here by {drawer()}",
            "16 records and 2 studies: no faults",
        ],
    )
    path.write_text(text.replace(drawer(), "\x1b[31mred"))
    assert "does not say what it was drawn from" in check(board).stdout


@pytest.mark.parametrize(
    "active",
    [
        "<script>alert(1)</script>",
        '<svg:script xmlns:svg="http://www.w3.org/2000/svg">alert(1)</svg:script>',
        '<g onload="alert(1)"/>',
        '<a href="javascript:alert(1)"><text>x</text></a>',
        '<image href="https://example.org/x.png"/>',
        '<rect fill="url(https://example.org/x#y)"/>',
        '<rect style="fill:url(https://example.org/x)"/>',
        '<use xlink:href="https://example.org/x"/>',
        "<foreignObject/>",
        "<animate/>",
        "<?xml-stylesheet href='x.css'?>",
        "<g>",
        "&unknown;",
    ],
)
def test_a_drawing_does_nothing_but_show(active: str, drawings: dict[str, bytes]) -> None:
    text = drawings[".svg"].decode()
    bad = text.replace("</svg>", f"{active}</svg>")
    assert bad != text
    assert drawing_fault(bad.encode(), CHART, ".svg") != ""


def test_a_word_in_a_drawing_may_look_like_anything() -> None:
    from kdzoo.drawing import svg

    name = 'onload="alert(1)" url(https://example.org) <script>'
    chart = CHART | {"title": name, "description": name}
    assert drawing_fault(svg(chart), chart, ".svg") == ""


def test_files_are_not_compared_where_records_cannot_be_read(board: Path) -> None:
    record = make_record(make_cell("soft", 1), 921)
    (board / path_of_record(record)).write_text("{")
    result = check(board)
    assert result.exit_code == 1
    row, unreadable, remark, summary = result.stdout.splitlines()
    assert row.startswith(f"{PAIR}: soft alpha=0.9 temperature=4: 2 seeds")
    assert unreadable.startswith(f"{at(record)}not valid JSON")
    assert unreadable.endswith("; restore it from version control, or remove it and publish it again from its runs")
    assert remark == "remark: the generated files were not compared, because not all records could be read"
    assert summary == "15 records and 2 studies: 2 faults"


def test_json_says_the_same(board: Path) -> None:
    assert json.loads(check(board, "--format", "json").stdout) == {
        "records": 16, "studies": 2, "faults": [], "remarks": [], "advice": "",
    }  # fmt: skip
    (board / "notes.txt").write_text("x")
    result = check(board, "--format", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["faults"] == [
        {"file": "notes.txt", "reason": "is neither a record nor made from records; move it away"}
    ]


def test_a_stray_file_does_not_keep_the_made_files_from_being_compared(board: Path) -> None:
    (board / "README.md").write_text("x")
    (board / "records" / "notes.txt").write_text("x")
    (board / "digits" / "board.tex").unlink()
    told = [line.partition(": ")[0] for line in check(board).stdout.splitlines()[1:]]
    assert told == ["README.md", "digits/board.tex", "records/notes.txt", "16 records and 2 studies"]


def test_what_is_no_published_folder_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not a published folder \(it has no folder records\); give the folder "):
        check(tmp_path)
    runs = make_store(tmp_path / "runs", make_rows({"ce": [900]}))
    with pytest.raises(UsageError, match=f"{runs} is a folder of runs; `kdzoo publish {runs} --to FOLDER` publishes"):
        check(runs)
    with pytest.raises(UsageError, match="unknown format 'yaml'"):
        check(tmp_path, "--format", "yaml")


def test_no_mutation_of_a_folder_raises(board: Path) -> None:
    """Whatever is done to one file is told, in lines."""
    draw = random.Random(1)
    files = [path for path in sorted(board.rglob("*")) if path.is_file()]
    for _ in range(25):
        path = draw.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        start = draw.randrange(len(bad) - 60)
        bad[start : start + 40] = bytes(draw.choices(range(256), k=40))
        path.write_bytes(bad)
        report = check_leaderboard(board)
        # Pixels of a plot are not compared: a plot is known by what it says it was drawn from.
        assert report.faults or path.suffix == ".png" or bytes(bad) == good, path
        assert all("\n" not in str(fault) for fault in report.faults)
        path.write_bytes(good)
    assert check_leaderboard(board).faults == ()


def test_a_check_needs_no_torch(board: Path) -> None:
    code = (
        "import sys; from kdzoo.cli import app; app(['check', sys.argv[1]], standalone_mode=False);"
        "heavy = {'torch', 'timm', 'optuna', 'accelerate', 'torchvision'} & sys.modules.keys(); print(heavy or 'light')"
    )
    told = output_of(sys.executable, "-c", code, board)
    assert told.splitlines() == ["16 records and 2 studies: no faults", "light"]


def test_remeasured_students_are_faults_of_their_files(
    board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, _ = make_tuned()
    store = make_store(tmp_path / "runs", records)
    wrong = next(record for record in records if record.cell.strategy.name == "soft")
    asked: dict[str, Any] = {}

    def remeasure(
        records: Sequence[Record], store: Any, registry: Any, measured: Callable[[str], None], **options: Any
    ) -> list[str]:
        asked.update(options, ids={record.id for record in records}, store=store.path)
        measured(wrong.id)
        return [f"{wrong.id}: top-1 on test is 90.00 %, and the record says 93.00 %: no"]

    monkeypatch.setattr("kdzoo.bench.remeasure.remeasure", remeasure)
    result = check(board, "--remeasure", store, "--data-dir", tmp_path / "data", "--device", "cpu")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{at(wrong)}top-1 on test is 90.00 %, and the record says 93.00 %: no",
        "16 records and 2 studies, 1 student measured again: 1 fault",
    ]
    assert asked == {
        "data_dir": tmp_path / "data", "device": "cpu", "ids": {record.id for record in records}, "store": store,
    }  # fmt: skip


def test_to_measure_nothing_again_is_a_fault(tmp_path: Path) -> None:
    failed = make_failure(make_cell("ce"))
    with blank_drawings():
        make_folder(tmp_path / "board", with_teachers([failed]))
    result = check(tmp_path / "board", "--remeasure", make_store(tmp_path / "runs", [failed]))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "records: holds no done student to measure again",
        "2 records and 0 studies, 0 students measured again: 1 fault",
    ]
    told = json.loads(check(tmp_path / "board", "--format", "json", "--remeasure", tmp_path / "runs").stdout)
    assert (told["measured_again"], len(told["faults"])) == (0, 1)
