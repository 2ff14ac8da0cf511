"""What must be true of one record or one study, whatever else is there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from scipy.special import bdtrc

from kdzoo.cell import PROTOCOL
from kdzoo.leaderboard.layout import path_of_record
from kdzoo.leaderboard.private import place_named_in, publishable
from kdzoo.leaderboard.untrusted import Fault, fault
from kdzoo.measures import SAMPLES, TOP1, Scores, hits
from kdzoo.parameters import MOST_SEARCHED
from kdzoo.record import EVALUATION, Record
from kdzoo.space import RECIPE_KEYS
from kdzoo.study import TRIAL_SEED, Study, StudyPlan, Trial

CHANCE = 0.01
"""How often a guess may score as a teacher does. The bench, which has the teacher's guesses, asks for more."""


_RECIPE = "recipe."
_NOT_FINITE = re.compile(
    r"the term .+ was NaN or infinite from step \d+ of \d+ on in epoch (?P<epoch>\d+) \(phase .+\); .+"
    r"|the network's logits are not finite, so it cannot be measured"
)
"""All reasons of :class:`kdzoo.errors.NonFiniteLossError` that a training ever gave; epochs count from 0."""


def record_faults(records: Iterable[Record]) -> list[Fault]:
    """The faults of each record by itself."""
    return [fault(path_of_record(record), reason) for record in records for reason in _reasons(record)]


def remarks(records: Sequence[Record]) -> list[str]:
    """What is no fault, but stands apart on the board."""
    found = []
    for what, newest, versions in (
        ("evaluation", EVALUATION, [record.evaluation for record in records]),
        ("protocol", PROTOCOL, [record.cell.protocol for record in records]),
    ):
        for version in sorted({version for version in versions if version < newest}):
            found.append(
                f"records of {what} {version}, marked on the board and not mixed with today's {newest}: "
                f"{versions.count(version):,}"
            )
    vouched = [record for record in records if record.teacher and record.teacher.vouched]
    if vouched:
        found.append(
            "records of teachers that are not above chance, accepted by --trust-teacher, marked on the board: "
            f"{len(vouched):,}"
        )
    return found


def better_than_chance(scores: Scores, classes: int) -> bool:
    """Whether guessing one of equally frequent classes rarely scores so high, or all is right (exact binomial test)."""
    right, samples = hits(scores), scores[SAMPLES]
    tail = bdtrc(right - 1, samples, 1 / classes) if right else 1.0
    return right == samples or bool(tail <= CHANCE)


def _reasons(record: Record) -> Iterator[str]:
    cell = record.cell
    if cell.kind == "trial":
        yield "is a trial of tuning, which belongs in its study and cannot be published"
    elif cell.kind == "rung":
        yield "is a rung of a race, which only chose and cannot be published"
    elif cell.seed == TRIAL_SEED:
        yield f"has the seed {TRIAL_SEED}, which belongs to the trials of tuning and the rungs of races"
    if record.evaluation > EVALUATION or cell.protocol > PROTOCOL:
        yield (
            f"was made by a newer kdzoo (evaluation {record.evaluation}, protocol {cell.protocol}; this one knows "
            f"{EVALUATION} and {PROTOCOL}), so upgrade kdzoo"
        )
    if publishable(record).model_copy(update={"record_schema": record.record_schema}) != record:
        yield "holds a traceback or local paths; bring it here with `kdzoo publish`"
    elif place := place_named_in(record):
        yield place
    if record.status == "done":
        yield from _measured(record)


def _measured(record: Record) -> Iterator[str]:
    cell, main = record.cell, record.main
    data = cell.data
    whose = [("", record.tune, record.test)]
    if record.teacher:
        whose += [("its teacher on ", one.tune, one.test) for _, one in record.teacher.places()]
    for who, tune, test in whose:
        for name, scores, n in (("tune", tune, data.tune), ("test", test, data.test)):
            if scores and scores[SAMPLES] != n:
                yield f"measured {who}{name} with {scores[SAMPLES]:,} samples, and the dataset has {n:,}"
    epochs = [line.epoch for line in record.curve]
    if len(epochs) != cell.recipe.epochs or epochs != list(range(len(epochs))):
        yield f"has a curve of {len(record.curve):,} lines, and its recipe {cell.recipe.epochs:,} epochs, one a line"
    elif record.tune and (last := record.curve[-1].score) is not None and last != record.tune[main.name]:
        percent = "%" if main.unit == "%" else ""
        yield (
            f"ends its curve with {main.title} {last:.4f}{percent} on tune, and measured "
            f"{record.tune[main.name]:.4f}{percent}"
        )
    if record.teacher and record.teacher.vouched:
        return  # a teacher that knows nothing may well teach to be wrong; the board says what it was
    score = record.test.get(TOP1.name) if record.test else None
    if score is not None and score <= 100 / data.num_classes:
        yield (
            f"is not above chance: {TOP1.title} {score:.2f}% on test, with {data.num_classes:,} classes; find out "
            "why before it is published"
        )
    taught = record.teacher.test if record.teacher else {}
    if TOP1.name in taught and not better_than_chance(taught, data.num_classes):
        yield f"has a teacher no better than chance: {TOP1.title} {taught[TOP1.name]:.2f}% on test"


def plan_reasons(plan: StudyPlan) -> Iterator[str]:
    """Why no bench makes such a plan."""
    same = {"epochs": 1, "name": ""}
    if plan.trial_recipe.model_copy(update=same) != plan.recipe.model_copy(update=same):
        yield "has trials of another recipe than its winner's; only the epochs may differ"
    keys = sorted(name.removeprefix(_RECIPE) for name in plan.space if name.startswith(_RECIPE))
    if forbidden := sorted(set(keys) - set(RECIPE_KEYS)):
        yield f"searches {', '.join(forbidden)} of the recipe; only {', '.join(RECIPE_KEYS)} may be searched"
    if (own := len(plan.space) - len(keys)) > MOST_SEARCHED:
        yield f"searches {own} parameters of {plan.strategy.name}, and at most {MOST_SEARCHED} may be"
    if odd := sorted(name for name, value in plan.defaults().items() if plan.space[name].whole != (type(value) is int)):
        yield f"searches {', '.join(odd)} with the wrong type: whole numbers or others"


def trial_reasons(study: Study) -> Iterator[str]:
    """Why no search gives such trials."""
    cells: dict[str, int] = {}
    for number, trial in enumerate(study.trials):
        for reason in (*_values(study.plan, trial, number), *_end(study.plan, trial)):
            yield f"trial {number} {reason}"
        first = cells.setdefault(trial.cell, number)
        if first != number and study.plan.repeats_nothing:
            yield f"trial {number} tries what trial {first} tried"
        elif first != number and _ended(trial) != _ended(study.trials[first]):
            yield f"trial {number} is the training of trial {first}, and ended otherwise"


def _values(plan: StudyPlan, trial: Trial, number: int) -> Iterator[str]:
    if number == 0:  # the defaults, wherever they lie
        return
    if outside := sorted(name for name, value in trial.values.items() if value not in plan.space[name]):
        yield f"tried {', '.join(outside)} outside of its range"
    if broken := sorted(name for name, value in trial.values.items() if _other_type(plan, name, value)):
        yield f"tried {', '.join(broken)} in another type than its default's"


def _other_type(plan: StudyPlan, name: str, value: object) -> bool:
    return type(value) is not (int if plan.space[name].whole else float)


def _end(plan: StudyPlan, trial: Trial) -> Iterator[str]:
    lines, epochs = len(trial.curve), plan.trial_recipe.epochs
    if trial.state == "done" and lines != epochs:
        yield f"is done with a curve of {lines:,} epochs, and a trial has {epochs:,}"
    elif trial.state == "pruned" and lines >= epochs:
        yield f"was pruned with a curve of {lines:,} epochs, and a trial has {epochs:,}"
    elif lines > epochs:
        yield f"has a curve of {lines:,} epochs, and a trial has {epochs:,}"
    if trial.state == "done" and trial.seconds <= 0:
        yield "is done and took no time"
    if trial.state == "pruned" and not _may_prune(plan, trial):
        pruner = "" if plan.pruner == "none" else f"the {plan.pruner} pruner or "
        yield f"was pruned, and its reason is none that {pruner}a loss that is not finite gives: {trial.reason}"


def _may_prune(plan: StudyPlan, trial: Trial) -> bool:
    if found := _NOT_FINITE.fullmatch(trial.reason):
        return found["epoch"] in (None, str(len(trial.curve)))
    return plan.pruner != "none" and trial.reason == plan.prune_reason(len(trial.curve))


def _ended(trial: Trial) -> tuple[object, ...]:
    return trial.state, trial.curve, trial.reason
