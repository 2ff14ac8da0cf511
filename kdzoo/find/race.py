"""A race: settings of strategies are trained rung by rung, and the better part of each rung goes on.

Successive halving (Jamieson and Talwalkar 2016, AISTATS) with the rungs of Hyperband's first bracket (Li et al. 2018,
JMLR 18; eta = 3), synchronous, so that who goes on depends on no clock: ASHA (Li et al. 2020, MLSys), which does not
wait for the slowest, gives another result on another number of workers.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kdzoo.bench.plan import BenchPlan
from kdzoo.bench.search import ETA
from kdzoo.board.labels import strategy_labels
from kdzoo.cell import Cell, content_hash
from kdzoo.errors import KdzooError, UsageError, counted, strategies_text
from kdzoo.measures import EVALUATE, TRAIN
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.refs import Scalar
from kdzoo.space import Range
from kdzoo.study import TRIAL_SEED

RUNGS = 3
"""At most: each is ETA times as long as the one before, and has a share of 1/ETA of its settings."""
MOST_SETTINGS = 30
"""Of a strategy with something to search, on average, beside its defaults: more time is left over."""
FINALISTS = 3
"""Strategies, beside the student alone, that are trained again on fresh seeds: the most."""

_BUDGET = re.compile(r"(\d+(?:\.\d+)?) *(h|min|m|s|x)")
_SECONDS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0}


class RaceBudget(NamedTuple):
    """What a race may spend: so many trainings' worth of epochs, or so many seconds; one of both is None."""

    trainings: float | None
    seconds: float | None

    @classmethod
    def parse(cls, text: str) -> RaceBudget:
        """Read ``40x``, ``2h``, ``90min`` or ``600s``.

        Raises:
            UsageError: it is something else, or nothing.
        """
        found = _BUDGET.fullmatch(text.strip())
        if found is None or float(found[1]) <= 0:
            raise UsageError(f"--budget {text}: write trainings as 40x, or a time as 2h, 90min or 600s")
        number = float(found[1])
        return cls(number, None) if found[2] == "x" else cls(None, number * _SECONDS[found[2]])


def rung_ends(recipe: Recipe) -> tuple[int, ...]:
    """After how many epochs of a recipe each rung ends: a ninth, a third and all, and none before its warm-up does."""
    earliest = math.floor(recipe.warmup * recipe.epochs) + 1
    return tuple(sorted({max(earliest, math.ceil(recipe.epochs / ETA**power)) for power in range(RUNGS)}))


def places(entrants: int) -> int:
    """How many of a rung's settings go on: a third, and enough for the finals."""
    return min(entrants, max(FINALISTS, math.ceil(entrants / ETA)))


def epochs_above(entrants: int, ends: Sequence[int]) -> int:
    """What the rungs above the first of some cost, in epochs.

    Args:
        entrants: settings on the first of them.
        ends: of the rungs.
    """
    epochs = 0
    for low, high in itertools.pairwise(ends):
        entrants = places(entrants)
        epochs += entrants * (high - low)
    return epochs


@dataclass
class Runner:
    """A setting in the race.

    Args:
        number: its place in the order in which settings were asked for; 0 is the student alone.
        label: of its strategy.
        cell: its first final cell.
        values: of what is searched of its strategy, by full name.
        records: one of each rung that it reached.
    """

    number: int
    label: str
    cell: Cell
    values: Mapping[str, Scalar]
    records: list[Record] = field(default_factory=list)

    def rung(self, until: int) -> Cell:
        """Its cell of the rung that ends there."""
        return self.cell.model_copy(update={"kind": "rung", "seed": TRIAL_SEED, "until": until})

    def final(self, seed: int) -> Cell:
        """Its cell that boards show."""
        return self.cell.model_copy(update={"seed": seed})

    @property
    def alone(self) -> bool:
        """Whether it is the student alone, which every rung trains, and which takes nobody's place."""
        return self.number == 0

    @property
    def score(self) -> float | None:
        """The main measure on tune at the end of its last rung, higher is better; None where a training broke off."""
        last = self.records[-1]
        score = last.curve[-1].score if last.status == "done" else None
        return None if score is None else last.main.sign * score

    @property
    def rank(self) -> tuple[float, float, int]:
        """The lower the better: by the score, then by that of all its epochs, then first come first served."""
        if self.score is None:
            return math.inf, math.inf, self.number
        last = self.records[-1]
        curve = [last.main.sign * line.score for line in last.curve if line.score is not None]
        return -self.score, -math.fsum(curve) / len(curve), self.number

    @property
    def epochs(self) -> int:
        """How many epochs it was trained."""
        return max((len(record.curve) for record in self.records), default=0)

    @property
    def seconds(self) -> float:
        """What these took, with evaluation; the record of a rung counts those below it too."""
        return max((seconds_of(record) for record in self.records), default=0.0)


def seconds_of(record: Record) -> float:
    """Training and evaluation of a cell, seconds."""
    return record.cost[TRAIN.name] + record.cost[EVALUATE.name] if record.cost else 0.0


@dataclass(frozen=True)
class Race:
    """What is raced, and for how much.

    Args:
        cells: the first final cell of each strategy at its defaults by its label, the student alone first.
        spaces: label of a strategy -> what is searched of it, by full name; those of which something is.
        budget: what it may spend.
        seeds: on how many fresh seeds the finalists are trained.
    """

    cells: Mapping[str, Cell]
    spaces: Mapping[str, Mapping[str, Range]]
    budget: RaceBudget
    seeds: int

    @classmethod
    def of(cls, plan: BenchPlan, budget: RaceBudget) -> Race:
        """The race of a bench that tunes every strategy of one pair.

        Raises:
            UsageError: there are several pairs, or no strategy to compare; or the recipe is searched too.
        """
        if len(plan.pairs) != 1:
            raise UsageError(f"a race is of one pair on one dataset, not of {len(plan.pairs)}: name one of each")
        if keys := sorted({name for study in plan.studies for name in study.space if name.startswith("recipe.")}):
            raise UsageError(f"a race searches the parameters of strategies: leave out --search {keys[0]}")
        firsts = [cell for cell in plan.cells if cell.kind == "student" and cell.seed == 0]
        labels = strategy_labels([cell.strategy for cell in firsts])
        if len(firsts) < 2:
            raise UsageError("there is no strategy to race: name --strategies that serve the pair")
        spaces = {study.strategy.version: study.space for study in plan.studies}
        searched = {
            label: spaces[cell.strategy.version]
            for label, cell in zip(labels, firsts, strict=True)
            if cell.strategy.version in spaces
        }
        return cls(dict(zip(labels, firsts, strict=True)), searched, budget, plan.seeds)

    @property
    def name(self) -> str:
        """Names what it draws from. Of two budgets the larger one tries what the smaller one tries, and more."""
        spaces = {
            label: {name: str(one) for name, one in sorted(space.items())} for label, space in self.spaces.items()
        }
        return content_hash([[cell.id for cell in self.cells.values()], spaces])

    @property
    def recipe(self) -> Recipe:
        """The recipe of all its cells."""
        return next(iter(self.cells.values())).recipe

    @property
    def ends(self) -> tuple[int, ...]:
        """See :func:`rung_ends`."""
        return rung_ends(self.recipe)

    @property
    def strategies(self) -> int:
        """How many are compared, the student alone not among them."""
        return len(self.cells) - 1

    @property
    def set_aside(self) -> int:
        """Epochs that are spent whatever happens: the student alone to its end, and the finals."""
        return self.recipe.epochs * (1 + (1 + min(FINALISTS, self.strategies)) * self.seeds)

    def least(self) -> int:
        """Epochs of the smallest race: each strategy at its defaults alone."""
        return self.set_aside + self.strategies * self.ends[0] + epochs_above(self.strategies, self.ends)

    def allowed(self, trainings: float) -> int:
        """The epochs of so many trainings.

        Raises:
            UsageError: they do not suffice for the smallest race.
        """
        epochs = math.floor(trainings * self.recipe.epochs + 1e-9)
        if epochs < self.least():
            whole = self.recipe.epochs
            raise UsageError(
                f"the budget of {trainings:g} trainings is too small: {strategies_text(self.strategies)} and the "
                f"student alone need at least {_up(self.least() / whole):g}x, of which the finals on "
                f"{counted(self.seeds, 'seed')} take {(self.set_aside / whole) - 1:g}x; raise --budget, name fewer "
                f"--strategies or lower --seeds"
            )
        return epochs

    def reshape(self, plan: BenchPlan) -> None:
        """Leave in a plan what the race begins with: the teachers, and each strategy's first rung."""
        teachers = [cell for cell in plan.cells if cell.kind == "teacher"]
        plan.cells = [*teachers, *(one.rung(self.ends[0]) for one in self.starters())]
        plan.studies = []

    def starters(self) -> list[Runner]:
        """Each strategy at its defaults, the student alone first."""
        return [
            Runner(number, label, cell, {name: _value(cell, name) for name in self.spaces.get(label, {})})
            for number, (label, cell) in enumerate(self.cells.items())
        ]

    def runner(self, number: int, label: str, values: Mapping[str, Scalar]) -> Runner:
        """A strategy with other values."""
        cell = self.cells[label]
        params = cell.strategy.params | {name.partition(".")[2]: value for name, value in values.items()}
        strategy = cell.strategy.model_copy(update={"params": params})
        return Runner(number, label, cell.model_copy(update={"strategy": strategy}), values)


def _value(cell: Cell, name: str) -> Scalar:
    return cell.strategy.params[name.partition(".")[2]]


def _up(trainings: float) -> float:
    return math.ceil(10 * trainings - 1e-9) / 10


def trainings_in(seconds: float, at_once: int, runners: Sequence[Runner], race: Race) -> float:
    """How many trainings fit into a time, by what the first rung took; whole tenths.

    Args:
        seconds: of wall time.
        at_once: cells that run side by side.
        runners: that ran the first rung.
        race: whose recipe it is.

    Raises:
        KdzooError: nothing was trained.
    """
    epochs, spent = sum(one.epochs for one in runners), sum(one.seconds for one in runners)
    if not epochs or not spent:
        raise KdzooError("no training of the first rung came to its end, so nothing tells how long one takes")
    return math.floor(10 * seconds * at_once * epochs / (spent * race.recipe.epochs)) / 10
