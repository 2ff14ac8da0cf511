"""A study: the search for one strategy's parameters on one pair, and the trials it consists of. No torch here."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kdzoo.cell import Cell, canonical_json, content_hash
from kdzoo.jsontext import parse_sealed, sealed
from kdzoo.measures import TOP1, Measure
from kdzoo.recipe import Recipe
from kdzoo.refs import NAMELESS_TEACHER, DataRef, Frozen, Hop, Init, ModelRef, Scalar, StrategyRef, TeacherRef
from kdzoo.space import Range

STUDY_SCHEMA = 5
"""Version of the study's form: 2 brought the plan's protocol; 3 epochs that were not measured; 4 what students start
from, and a seal; 5 which measure selects."""

_SELECTS = 5
"""The first schema that says which measure selects."""

_SEALED = 4
"""The first schema whose studies are sealed."""

TUNER = 2
"""Version of the search: raised when the same history would be answered by other values.

2 tries no setting twice and ends where none is left, rounds by the width of a range, and keeps trials that a pruner may
end apart from those of other studies.
"""

_DISTINCT, _OWN_TRIALS = 2, 2
"""The first versions of the search that try nothing twice, and that keep trials apart which a pruner may end."""

TRIAL_SEED = 1_000_000
"""Seed index of every trial and rung. Final runs count theirs from 0, so none repeats a trial's draws."""

Pruner = Literal["none", "median", "hyperband"]


class Trial(Frozen):
    """One trial of a study.

    Args:
        cell: id of its cell.
        values: what was tried, by full name (``soft.temperature``, ``recipe.lr``).
        state: ``asked`` until its cell has a record; ``done``; ``pruned`` by the pruner or a non-finite loss;
            ``failed`` by anything else.
        curve: the score (the study's main measure on tune) after each epoch; None where it was not measured.
        seconds: training and evaluation, including the teacher's passes.
        reason: why it was pruned or failed.
    """

    cell: str
    values: dict[str, Scalar]
    state: Literal["asked", "done", "pruned", "failed"] = "asked"
    curve: tuple[float | None, ...] = ()
    seconds: Annotated[float, Field(ge=0)] = 0.0
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Trial:
        if self.state == "done" and not self.curve:
            raise ValueError("a done trial needs a curve")
        if self.state == "done" and self.curve[-1] is None:
            raise ValueError("a done trial needs a score on tune after its last epoch")
        if self.state in ("pruned", "failed") and not self.reason:
            raise ValueError(f"a {self.state} trial needs a reason")
        return self

    @property
    def score(self) -> float | None:
        """The objective: the score after the last epoch; None unless it is done."""
        return self.curve[-1] if self.state == "done" else None

    @property
    def last_score(self) -> float | None:
        """The score when it was last measured, also of a trial that was ended early; None if never."""
        return next((score for score in reversed(self.curve) if score is not None), None)


class StudyPlan(Frozen):
    """What is searched, and how: all that decides which values are tried.

    Args:
        data: the dataset.
        teacher: the teacher.
        student: the student.
        strategy: the strategy with the parameters of trial 0: what was set by hand, else the paper's value where it is
            declared and searched, else the default.
        recipe: the recipe of the final runs, before tuning.
        trial_recipe: the same with the trials' epochs.
        space: full name of a parameter -> what is tried.
        trials: their number, where there are as many settings to try; see :attr:`length`.
        pruner: what ends trials early.
        batch: how many trials are asked for at a time, each batch knowing the results of those before it.
        init: what the students start from.
        tuner: version of the search; whoever makes a plan gives today's.
        protocol: version of the protocol of its cells; whoever makes a plan gives today's.
        hops: the networks between teacher and student, which have the values of trial 0 whatever a trial tries.
        peer: the second student.
    """

    data: DataRef
    teacher: TeacherRef
    student: ModelRef
    strategy: StrategyRef
    recipe: Recipe
    trial_recipe: Recipe
    space: Annotated[dict[str, Range], Field(min_length=1)]
    trials: Annotated[int, Field(ge=1)]
    pruner: Pruner = "none"
    batch: Annotated[int, Field(ge=1)] = 1
    init: Init = "random"
    # These two are part of the id, which leaves out defaults: 1 for good, so that a study of any version keeps its id.
    tuner: Annotated[int, Field(ge=1)] = 1
    protocol: Annotated[int, Field(ge=1)] = 1
    hops: tuple[Hop, ...] = Field(default=(), exclude_if=operator.not_)
    peer: ModelRef | None = Field(default=None, exclude_if=operator.not_)

    @model_validator(mode="after")
    def _searches_what_is_there(self) -> StudyPlan:
        for name in self.space:
            if type(self._default(name)) not in (int, float):
                raise ValueError(f"{name} is no number that could be searched")
        return self

    @property
    def id(self) -> str:
        """Sixteen hex digits that name the study: a hash of all but the names of recipes."""
        nameless: dict[str, Any] = {
            "recipe": {"name"},
            "trial_recipe": {"name"},
            "teacher": NAMELESS_TEACHER,
        }
        return content_hash(self.model_dump(mode="json", exclude=nameless, exclude_defaults=True))

    def _default(self, name: str) -> Any:
        owner, _, key = name.partition(".")
        if owner == "recipe":
            return getattr(self.recipe, key, None)
        return self.strategy.params.get(key) if owner == self.strategy.name else None

    def defaults(self) -> dict[str, Scalar]:
        """The values of trial 0."""
        return {name: self._default(name) for name in self.space}

    @property
    def settings(self) -> int | None:
        """How many different settings there are to try, the defaults included; None where not all are whole numbers."""
        counts = [one.count for one in self.space.values()]
        found = math.prod(count for count in counts if count is not None)
        inside = all(type(value) is int and value in self.space[name] for name, value in self.defaults().items())
        return None if None in counts else found + (not inside)

    @property
    def repeats_nothing(self) -> bool:
        """Whether no two trials try the same."""
        return self.tuner >= _DISTINCT

    @property
    def length(self) -> int:
        """How many trials the study has once it is finished: as many as were asked for, or as there are settings."""
        settings = self.settings if self.repeats_nothing else None
        return self.trials if settings is None else min(self.trials, settings)

    def prune_reason(self, epochs: int) -> str:
        """What a trial says that the pruner ended after so many epochs."""
        return f"{self.pruner} pruner, after epoch {epochs} of {self.trial_recipe.epochs}"

    def trial(self, values: dict[str, Scalar]) -> Cell:
        """The cell of the trial with some values, by full name. A trial that a pruner may end is the study's own."""
        owned = self.pruner != "none" and self.tuner >= _OWN_TRIALS
        return self._cell("trial", self.trial_recipe, values, TRIAL_SEED, study=self.id if owned else "")

    def final(self, values: dict[str, Scalar], seed: int) -> Cell:
        """The cell that trains a student with some values, by full name, for the board."""
        return self._cell("student", self.recipe, values, seed)

    def _cell(
        self, kind: Literal["student", "trial"], recipe: Recipe, values: dict[str, Scalar], seed: int, study: str = ""
    ) -> Cell:
        params, changes = dict(self.strategy.params), dict[str, Scalar]()
        for name, value in values.items():
            owner, _, key = name.partition(".")
            (changes if owner == "recipe" else params)[key] = value
        tuned = recipe.model_copy(update=changes)
        return Cell(
            kind=kind,
            data=self.data,
            student=self.student,
            teacher=self.teacher,
            strategy=self.strategy.model_copy(update={"params": params}),
            recipe=tuned,
            seed=seed,
            init=self.init,
            tuned_from=None if tuned == recipe else recipe,
            study=study,
            hops=self.hops,
            peer=self.peer,
            protocol=self.protocol,
        )


class Study(Frozen):
    """A study and its trials, in the order in which they were asked for.

    Args:
        study_schema: version of this form.
        id: the plan's id.
        plan: what is searched, and how.
        trials: as far as they were asked for; as many as the plan's length once it is finished.
        main: the measure on tune that selects.
    """

    study_schema: Annotated[int, Field(ge=1)] = STUDY_SCHEMA
    id: str
    plan: StudyPlan
    trials: tuple[Trial, ...] = ()
    main: Measure = TOP1

    @model_validator(mode="after")
    def _belongs_together(self) -> Study:
        if self.id != self.plan.id:
            raise ValueError(f"the id {self.id!r} is not the hash of the plan, {self.plan.id!r}")
        if len(self.trials) > self.plan.length:
            raise ValueError(f"a study of {self.plan.length} trials has {len(self.trials)}")
        for number, trial in enumerate(self.trials):
            if trial.values.keys() != self.plan.space.keys():
                raise ValueError(f"trial {number} does not try what the plan searches")
            if trial.cell != self.plan.trial(trial.values).id:
                raise ValueError(f"trial {number} names another cell than that of its values")
            for score in trial.curve:
                if score is not None and (fault := self.main.bound_fault(score)):
                    raise ValueError(f"trial {number}: {fault}")
        if self.trials and self.trials[0].values != self.plan.defaults():
            raise ValueError("trial 0 does not try the values that the plan begins with")
        return self

    @property
    def finished(self) -> bool:
        """Whether every trial of the plan has ended."""
        return len(self.trials) == self.plan.length and all(trial.state != "asked" for trial in self.trials)

    @property
    def exhausted(self) -> bool:
        """Whether it is finished and has tried every setting that there is."""
        return self.finished and self.different == self.plan.settings

    @property
    def different(self) -> int:
        """How many different settings were asked for: each is trained once, however many trials have it."""
        return len({trial.cell for trial in self.trials})

    @property
    def best(self) -> Trial | None:
        """The trial with the best score, the first of equals; None if none is done."""
        done = [(self.main.sign * trial.score, trial) for trial in self.trials if trial.score is not None]
        return max(done, key=lambda scored: scored[0])[1] if done else None

    @property
    def seconds(self) -> float:
        """What the tuning took so far, seconds of training and evaluation; of trials that share a cell, once."""
        seconds: dict[str, float] = {}
        for trial in self.trials:
            seconds[trial.cell] = max(trial.seconds, seconds.get(trial.cell, 0.0))
        return math.fsum(seconds.values())

    def finals(self, seeds: Sequence[int]) -> list[Cell]:
        """The cells of the winner, one a seed; none before the study is finished or where no trial is done."""
        if not self.finished or self.best is None:
            return []
        return [self.plan.final(self.best.values, seed) for seed in seeds]

    def to_json(self) -> str:
        """The study as it stands in its file: one canonical line, sealed (see :mod:`kdzoo.jsontext`)."""
        older = {"main"} if self.study_schema < _SELECTS else None
        values = self.model_dump(mode="json", exclude=older)
        return sealed(values) if self.study_schema >= _SEALED else canonical_json(values) + "\n"


def parse_study(text: str | bytes, where: str) -> Study:
    """Read a study from its JSON.

    Args:
        text: the file's content.
        where: what to call the file in a message.

    Raises:
        DamagedError: it is not JSON, not a study, or was changed after it was written.
        NewerError: it is of a newer schema.
    """
    return parse_sealed(Study, text, where, version="study_schema", newest=STUDY_SCHEMA)
