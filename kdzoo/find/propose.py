"""Which settings a race tries beside the defaults: one Optuna study, in which the strategy is a parameter too."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from kdzoo.bench.search import evenly, rounded
from kdzoo.cell import canonical_json, content_hash
from kdzoo.refs import Scalar
from kdzoo.space import Range
from kdzoo.tuning.optuna_study import distribution, may_be_asked, quiet_study

_STRATEGY = "strategy"
"""The parameter on which all others depend."""

_STARTUP = 10
"""Settings that the sampler must know, at least, before it does more than draw evenly."""
_ASKS = 20
"""How often the sampler is asked for a setting that the race has not tried; then one is drawn evenly, as often."""


@dataclass(frozen=True)
class Tried:
    """A setting that the race has trained to the end of its first rung.

    Args:
        strategy: its label.
        values: of what is searched, by full name.
        score: the main measure on tune, with its sign changed where the lowest is best; None if the training broke off.
    """

    strategy: str
    values: Mapping[str, Scalar]
    score: float | None


def propose(
    name: str,
    spaces: Mapping[str, Mapping[str, Range]],
    tried: Sequence[Tried],
    count: int,
    strategies: Sequence[str] = (),
) -> list[tuple[str, dict[str, Scalar]]]:
    """The settings that a race tries next: strategy, and values of what is searched of it. None is tried twice.

    The sampler is Optuna's TPE (Bergstra et al. 2011, NeurIPS), which models each parameter by the trials that have it,
    and so takes a strategy's parameters as conditional on the strategy. It is made anew from a seed that follows from
    the race's name and the number of its settings: the same history is always answered alike, after any stop. With a
    larger count, the first ones stay the same.

    Args:
        name: of the race.
        spaces: label of a strategy -> what is searched of it; those that may be drawn.
        tried: in the order in which they were asked for.
        count: how many to propose; fewer come where the sampler finds nothing new.
        strategies: of the first ones, in their order; the sampler chooses the others.
    """
    seed = int(content_hash([name, len(tried)]), 16) % 2**32
    startup = max(_STARTUP, len({one.strategy for one in tried}))
    sampler = TPESampler(seed=seed, n_startup_trials=startup, multivariate=False, constant_liar=True)
    study = quiet_study(name, sampler=sampler)
    choices: dict[str, BaseDistribution] = {_STRATEGY: CategoricalDistribution(list(spaces))}
    study.add_trials([_frozen(one, choices, spaces) for one in tried if one.strategy in spaces])
    taken = {canonical_json([one.strategy, dict(one.values)]) for one in tried}
    even = random.Random(seed)
    found: list[tuple[str, dict[str, Scalar]]] = []
    for place in range(count):
        forced = strategies[place] if place < len(strategies) else ""
        for ask in range(2 * _ASKS):
            if ask < _ASKS:
                strategy, values = _sampled(study, choices, spaces, forced)
            else:
                strategy = forced or even.choice(list(spaces))
                values = {name: evenly(one, even) for name, one in spaces[strategy].items()}
            text = canonical_json([strategy, values])
            if text not in taken:
                taken.add(text)
                found.append((strategy, values))
                break
    return found


def _sampled(
    study: optuna.Study,
    choices: dict[str, BaseDistribution],
    spaces: Mapping[str, Mapping[str, Range]],
    forced: str,
) -> tuple[str, dict[str, Scalar]]:
    """What the sampler gives, perhaps of a strategy that is not its choice; it counts as running from then on."""
    if forced:
        study.enqueue_trial({_STRATEGY: forced})
    trial = study.ask(choices)
    strategy: str = trial.params[_STRATEGY]
    space = spaces[strategy].items()
    return strategy, {name: rounded(_suggest(trial, _of(strategy, name), one), one) for name, one in space}


def _of(strategy: str, name: str) -> str:
    """What a parameter of a strategy is called in the study: two distributions may bring a strategy of one name."""
    return f"{strategy}/{name}"


def _suggest(trial: Trial, name: str, one: Range) -> float:
    if one.whole:
        return trial.suggest_int(name, int(one.low), int(one.high), log=one.log)
    return trial.suggest_float(name, one.low, one.high, log=one.log)


def _frozen(
    one: Tried, choices: Mapping[str, BaseDistribution], spaces: Mapping[str, Mapping[str, Range]]
) -> FrozenTrial:
    """A setting as Optuna keeps it; without the values that Optuna could not have asked for, as defaults may be."""
    distributions: dict[str, BaseDistribution] = dict(choices)
    params: dict[str, Scalar] = {_STRATEGY: one.strategy}
    for name, tried in spaces[one.strategy].items():
        value = one.values[name]
        if may_be_asked(value, tried):
            place = _of(one.strategy, name)
            distributions[place], params[place] = distribution(tried), value
    state = TrialState.PRUNED if one.score is None else TrialState.COMPLETE
    return create_trial(state=state, value=one.score, params=params, distributions=distributions)
