"""A study rebuilt as Optuna's own: states, values by epoch, and what Optuna could not have asked for."""

from __future__ import annotations

import sys
from typing import Any

import optuna
import pytest
from board_studies import done, make_study
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState
from waiting import output_of

from kdzoo.space import Range
from kdzoo.tuning.optuna_study import NUMBER, distribution, frozen_trials, optuna_study


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (Range(low=0.1, high=10.0, log=True), FloatDistribution(0.1, 10.0, log=True)),
        (Range(low=0.0, high=1.0), FloatDistribution(0.0, 1.0)),
        (Range(low=1.0, high=8.0, whole=True), IntDistribution(1, 8)),
        (Range(low=1.0, high=64.0, whole=True, log=True), IntDistribution(1, 64, log=True)),
    ],
)
def test_a_range_becomes_the_distribution_that_draws_from_it(tried: Range, expected: Any) -> None:
    assert distribution(tried) == expected


def test_each_state_of_a_trial_has_its_counterpart() -> None:
    study = make_study(
        done(60.0, 70.0, 65.0),
        {"state": "pruned", "curve": (30.0, 31.0), "reason": "the pruner"},
        {"state": "failed", "reason": "out of memory"},
        {},
    )
    trials = frozen_trials(study)
    assert [trial.state for trial in trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert [trial.value for trial in trials] == [65.0, None, None, None]
    assert [trial.intermediate_values for trial in trials] == [{0: 60.0, 1: 70.0, 2: 65.0}, {0: 30.0, 1: 31.0}, {}, {}]
    assert [trial.params for trial in trials] == [trial.values for trial in study.trials]


def test_a_default_outside_of_its_range_is_left_out_and_the_others_keep_their_numbers() -> None:
    space = {"soft.temperature": Range(low=5.0, high=9.0)}  # the default is 4
    trials = frozen_trials(make_study(done(50.0), {"values": {"soft.temperature": 6.0}, **done(55.0)}, space=space))
    assert [(trial.user_attrs[NUMBER], trial.params) for trial in trials] == [(1, {"soft.temperature": 6.0})]


def test_a_fractional_default_of_a_whole_range_is_left_out() -> None:
    space = {"soft.temperature": Range(low=1.0, high=9.0, whole=True)}
    study = make_study(done(50.0), {"values": {"soft.temperature": 6}, **done(55.0)}, space=space, temperature=4.5)
    (trial,) = frozen_trials(study)
    assert trial.params == {"soft.temperature": 6}
    assert type(trial.params["soft.temperature"]) is int


def test_the_same_history_and_seed_are_answered_by_the_same_values() -> None:
    def ask(upto: int) -> list[dict[str, float]]:
        study = make_study(*(done(50.0 + number) for number in range(upto)))
        sampler = optuna.samplers.TPESampler(seed=7, n_startup_trials=2)
        rebuilt = optuna_study(study, sampler=sampler)
        trial = rebuilt.ask({name: distribution(tried) for name, tried in study.plan.space.items()})
        return [earlier.params for earlier in rebuilt.trials[:upto]] + [trial.params]

    first, second = ask(6), ask(6)
    assert first == second
    assert len({str(params) for params in first}) == 7


def test_the_rebuilt_study_maximizes_under_its_own_name_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    study = make_study(done(50.0), done(60.0), done(55.0))
    before = optuna.logging.get_verbosity()
    rebuilt = optuna_study(study)
    assert (rebuilt.study_name, rebuilt.direction.name, rebuilt.best_value) == (study.id, "MAXIMIZE", 60.0)
    assert rebuilt.best_trial.number == 1
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_optuna_brings_no_torch() -> None:
    code = "import sys, kdzoo.tuning.optuna_study; print([name for name in ('torch', 'timm') if name in sys.modules])"
    assert output_of(sys.executable, "-c", code) == "[]\n"
