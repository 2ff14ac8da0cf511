"""What must be true of tuning: whole studies on equal budgets, and tuned rows that are their winners."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from kdzoo.board.labels import differing, facts
from kdzoo.board.tuned import pruner_text, tuner_text
from kdzoo.cell import Cell, PairKey, RowKey, canonical_json
from kdzoo.errors import counted
from kdzoo.leaderboard.check.groups import row_text
from kdzoo.leaderboard.check.records import plan_reasons, trial_reasons
from kdzoo.leaderboard.layout import path_of_record, path_of_study
from kdzoo.leaderboard.private import place_named_in, publishable_study
from kdzoo.leaderboard.untrusted import Fault, fault
from kdzoo.matrix import BASELINE
from kdzoo.record import Record
from kdzoo.study import TUNER, Study

_RECIPE = "recipe."


def study_faults(records: Sequence[Record], studies: Sequence[Study]) -> list[Fault]:
    """The faults of studies, of rows that they tuned, and of rows that nothing tuned though they say so."""
    at: dict[PairKey, list[Study]] = defaultdict(list)
    for study in studies:
        at[_key(_final(study, 0)).pair].append(study)
    tried = {pair: _tried(inner) for pair, inner in at.items()}
    students = [record for record in records if record.cell.kind == "student"]
    rows = {_key(record.cell) for record in students}
    faults = [fault(path_of_study(study), reason) for study in studies for reason in _alone(study, rows)]
    for inner in at.values():
        faults += [fault(path_of_study(inner[0]).parent, reason) for reason in _budgets(inner)]
    for record in students:
        pair = _key(record.cell).pair
        reason = _tuned(record.cell, at.get(pair, []), tried.get(pair, {}))
        if reason:
            faults.append(fault(path_of_record(record), reason))
    return faults


def _final(study: Study, number: int) -> Cell:
    """A cell of the row that would have the values of a trial."""
    values = study.trials[number].values if number < len(study.trials) else study.plan.defaults()
    return study.plan.final(values, 0)


def _key(cell: Cell) -> RowKey:
    """The row of a cell, whatever evaluation measured it: a study may call the recipes otherwise than records do."""
    return cell.row_key(0, names=False)


def _best(study: Study) -> int | None:
    return None if study.best is None else study.trials.index(study.best)


def _alone(study: Study, rows: set[RowKey]) -> Iterator[str]:
    """What is wrong with one study, given the rows that are there."""
    plan = study.plan
    if plan.tuner > TUNER:
        yield f"was made by a newer kdzoo (tuner {plan.tuner}, this one knows {TUNER}), so upgrade kdzoo"
    if publishable_study(study).model_copy(update={"study_schema": study.study_schema}) != study:
        yield "holds local paths; bring it here with `kdzoo publish`"
    elif place := place_named_in(study):
        yield place
    yield from plan_reasons(plan)
    yield from trial_reasons(study)
    if not study.finished:
        ended = sum(trial.state != "asked" for trial in study.trials)
        yield f"is not finished: {ended} of {plan.length} trials ended"
    elif (best := _best(study)) is not None and _key(_final(study, best)) not in rows:
        yield f"found values for {plan.strategy.name} that have no record here; train and publish its winner"


def _tried(studies: Sequence[Study]) -> dict[RowKey, list[tuple[Study, int]]]:
    """Row -> the trials, of the studies of one pair, that tried it."""
    found: dict[RowKey, list[tuple[Study, int]]] = defaultdict(list)
    for study in studies:
        for number in range(len(study.trials)):
            found[_key(_final(study, number))].append((study, number))
    return found


def _tuned(cell: Cell, studies: Sequence[Study], tried: dict[RowKey, list[tuple[Study, int]]]) -> str:
    """Why a row is not what tuning gave; empty where it is, or where nothing says that it was tuned."""
    trials = tried.get(_key(cell), [])
    if any(number == 0 or (study.finished and number == _best(study)) for study, number in trials):
        return ""
    if trials:
        study, number = trials[0]
        return f"has the values of trial {number} of study {study.id}, which is not its best one ({_best(study)})"
    changes = cell.recipe_changes
    if not changes:
        return ""
    own = [study for study in studies if study.plan.strategy.version == cell.strategy.version]
    searched = {name for study in own for name in study.plan.space}
    foreign = sorted(changes.keys() - searched)
    if own and foreign:
        return f"has another {', '.join(foreign)} than its recipe before tuning, which no study searched"
    return f"{row_text(cell)}: its recipe is said to be tuned, and no finished study here found these values"


def _budgets(studies: Sequence[Study]) -> Iterator[str]:
    """Where the strategies of one pair were not searched alike."""
    budgets: dict[Hashable, list[dict[str, str]]] = defaultdict(list)
    recipes: dict[Hashable, str] = {}
    names: dict[Hashable, str] = {}
    for study in studies:
        key = study.plan.strategy.version
        names[key] = study.plan.strategy.name
        budgets[key].append(_budget(study))
        recipes[key] = canonical_json(_recipe_space(study))
    if len({canonical_json(sorted(each, key=canonical_json)) for each in budgets.values()}) > 1:
        differ = differing([one for each in budgets.values() for one in each]) or ["trials"]
        texts = "; ".join(sorted(f"{names[key]} {_budgets_text(each, differ)}" for key, each in budgets.items()))
        yield (
            f"has studies on different budgets ({texts}): tune the strategies of a pair alike, with the same numbers, "
            "or keep them apart, in another --out and published with another --to"
        )
    if len(set(recipes.values())) > 1:
        yield "has studies that search different keys or ranges of the recipe"
    if any(space != "{}" for space in recipes.values()) and BASELINE not in names.values():
        yield f"has studies that search the recipe, and none of {BASELINE}, which must be tuned alike"


def _budget(study: Study) -> dict[str, str]:
    """The parts of a study's budget, in words."""
    plan = study.plan
    recipe = {name: value for name, value in facts(plan.trial_recipe).items() if name not in ("name", "epochs")}
    return {
        "trials": counted(plan.trials, "trial"),
        "epochs": f"{counted(plan.trial_recipe.epochs, 'epoch')} a trial",
        "pruner": pruner_text(plan.pruner),
        "batch": f"{plan.batch} at a time",
        "tuner": tuner_text(plan.tuner),
        **{name: f"{name}={value}" for name, value in recipe.items()},
    }


def _budgets_text(budgets: Sequence[dict[str, str]], differ: Sequence[str]) -> str:
    """What differs between strategies, of one of them: ``4 trials``; of two studies ``3 trials and 4 trials``."""
    return " and ".join(sorted(", ".join(one[name] for name in differ) for one in budgets))


def _recipe_space(study: Study) -> dict[str, Any]:
    space = study.plan.model_dump(mode="json")["space"]
    return {name: searched for name, searched in space.items() if name.startswith(_RECIPE)}
