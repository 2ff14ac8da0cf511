"""The plan of a bench, in which all mistakes are found before anything trains; its result, where all is done."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from kdzoo.bench.beside import (
    as_one,
    balance_lines,
    named_model,
    named_teachers,
    network_of,
    refused_beside,
    trained_beside,
)
from kdzoo.bench.facts import DataFacts, PairPlan
from kdzoo.bench.lookup import Lookup
from kdzoo.cell import PROTOCOL, Cell
from kdzoo.config import BenchConfig
from kdzoo.declarations import pair_stages
from kdzoo.matrix import (
    Beside,
    Recipes,
    imagenet_values,
    resolve_recipes,
    resolve_spaces,
    resolve_strategies,
    student_cells,
    tried_first,
)
from kdzoo.needed import assistant_cells, in_stages, teacher_cell
from kdzoo.recipe import Recipe
from kdzoo.record import Record
from kdzoo.refs import DataRef, ModelRef, StrategyRef
from kdzoo.registry import Registered, Registry
from kdzoo.space import Range
from kdzoo.store import Store
from kdzoo.study import TUNER, Study, StudyPlan

if TYPE_CHECKING:
    import torch

    from kdzoo.data.load import LoadedData
    from kdzoo.strategy import Strategy


@dataclass(frozen=True)
class Refusal:
    """A strategy that cannot serve a pair, and why."""

    strategy: str
    teacher: ModelRef
    student: ModelRef
    data: str
    reason: str


@dataclass
class BenchPlan:
    """What a bench will do. ``cells`` holds the teachers' trainings first, then the students'; ``studies`` what is
    tuned, whose winners are trained with ``seeds`` after them.

    ``refused`` are strategies that cannot serve a pair and have no cells there; ``broken`` are those with a bug, whose
    cells run and fail. ``inputs`` says how teachers from files are shown images and which values strategies take for
    ImageNet, ``warnings`` what may be wrong with those files, and what plugins changed of the process and had put back.
    ``device`` and ``data`` are there where the plugins were loaded; a plan from the cache cannot run.
    """

    device: torch.device = field(init=False)
    data: dict[DataRef, LoadedData] = field(default_factory=dict)
    datasets: list[DataFacts] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    pairs: list[PairPlan] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    broken: list[Refusal] = field(default_factory=list)
    studies: list[StudyPlan] = field(default_factory=list)
    seeds: int = 0
    inputs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, line: str) -> None:
        """Add a warning, once; nothing where the line is empty."""
        if line and line not in self.warnings:
            self.warnings.append(line)

    def breaks(self, strategy: StrategyRef, pair: PairPlan) -> bool:
        """Whether a strategy has a bug that showed on a pair."""
        where = (strategy.name, pair.teacher.model, pair.student, pair.data.name)
        return where in ((one.strategy, one.teacher, one.student, one.data) for one in self.broken)

    def later(self, *, only_tune: bool = False) -> list[Cell]:
        """Stand-ins for the cells that tuning will add, whose values are not known yet: as many, and as long."""
        found: list[Cell] = []
        for study in self.studies:
            found += [study.trial(study.defaults())] * study.length
            found += [] if only_tune else [study.final(study.defaults(), 0)] * self.seeds
        return found


def make_plan(config: BenchConfig, registry: Registry) -> BenchPlan:
    """Resolve a configuration against plugins, data and models.

    Args:
        config: the bench.
        registry: the plugins. Where they come from the cache, the plan shows what a bench would do, and cannot run.

    Raises:
        UsageError: the first thing that is wrong.
        NotKnownError: the plugins come from the cache, which lacks something.
    """
    lookup = Lookup(config, registry)
    strategies = resolve_strategies(config, registry)
    recipes = resolve_recipes(config)
    spaces = resolve_spaces(config, strategies, recipes.student, registry) if config.tune else {}
    firsts = tried_first(config, spaces, registry) if config.tune else {}
    both = (recipes.student, recipes.teacher)
    plan = BenchPlan(seeds=config.seeds, inputs=_imagenet_lines(config, strategies, registry))
    if device := lookup.device([recipe.precision for recipe in both]):
        plan.device = device
    pairs = [(named_teachers(teacher), named_model(student)) for teacher, student in config.all_pairs()]
    for ref in dict.fromkeys(ref for teachers, student in pairs for ref in (*teachers, student)):
        lookup.check_model(ref)

    trainings: dict[str, Cell] = {}
    students: dict[str, Cell] = {}
    studies: dict[str, StudyPlan] = {}
    trained_by = list(dict.fromkeys((recipes.student, recipes.trial)))
    for name in config.dataset:
        data = lookup.data(name)
        for recipe in both:
            lookup.check_recipe(recipe, data.ref)
        plan.datasets.append(data)
        plan.warn(data.warning)
        known = {
            ref: lookup.teacher(ref, data, recipes.teacher, strategies[0])
            for ref in dict.fromkeys(ref for refs, _ in pairs for ref in refs)
        }
        for found in known.values():
            if found.file and found.ref.digest:
                plan.files[found.ref.digest] = found.file
            plan.inputs += [found.line] if found.line else []
            plan.warn(found.warning)
        teachers = {refs: as_one([known[ref].ref for ref in refs]) for refs, _ in pairs}
        teacher_plans = {teacher: network_of(teacher, data.ref, lookup) for teacher in teachers.values()}
        inits = {ref: lookup.start(ref, data.ref) for ref in dict.fromkeys(student for _, student in pairs)}
        student_plans = {ref: lookup.network(ref, data.ref, own_input=init != "random") for ref, init in inits.items()}
        for refs, student in pairs:
            teacher, init = teachers[refs], inits[student]
            made = [training for part in teacher.parts if (training := teacher_cell(part, data.ref))]
            trainings |= {training.id: training for training in made if training.id not in trainings}
            ours, theirs = student_plans[student], teacher_plans[teacher]
            stages = pair_stages(ours.signature, theirs.signature)
            pair = PairPlan(data.ref, teacher, student, init, theirs, ours, stages)
            plan.pairs.append(pair)
            served = _served(pair, strategies, trained_by, lookup, plan)
            ends = (teacher, student)
            cells = student_cells(data.ref, ends, list(served), recipes.student, config.seeds, init, served)
            students |= {cell.id: cell for cell in cells if cell.id not in students}
            for strategy, beside in served.items():
                if config.tune and spaces[strategy]:
                    if not plan.breaks(strategy, pair):
                        lookup.check_ranges(firsts[strategy], spaces[strategy], pair, recipes.trial.epochs)
                    study = _study(pair, firsts[strategy], recipes, spaces[strategy], config, beside)
                    studies.setdefault(study.id, study)
    between = {each.id: each for cell in students.values() for each in assistant_cells(cell)}
    plan.cells = [*trainings.values(), *chain.from_iterable(in_stages(between.values())), *students.values()]
    plan.inputs += balance_lines(config.balance, plan.cells)
    plan.studies = list(studies.values())
    plan.data = lookup.loaded
    return plan


def _imagenet_lines(config: BenchConfig, strategies: Sequence[StrategyRef], registry: Registry) -> list[str]:
    if config.defaults != "imagenet":
        return []
    named = []
    for strategy in strategies:
        values = sorted(imagenet_values(config, registry.of(strategy)))
        pieces = [f"{name}={strategy.params[name]}" for name in values if name in strategy.params]
        named += [" ".join([strategy.name, *pieces])] if pieces else []
    lines = [f"values for ImageNet: {', '.join(named) or 'no strategy of this bench has any'}"]
    lacking = [name for strategy in strategies for name in _without_imagenet(strategy, registry.of(strategy))]
    if lacking:
        lines.append(f"no values for ImageNet, defaults used: {', '.join(dict.fromkeys(lacking))}")
    return lines


def _without_imagenet(strategy: StrategyRef, entry: Registered[type[Strategy]]) -> list[str]:
    """The strategy, or its parts, that have something to tune, no value for ImageNet, and all defaults."""
    found = []
    for part in entry.sources:
        declared = part.declared.params
        tunable = {f"{part.name}.{name}" if entry.parts else name: spec for name, spec in declared.items()}
        tunable = {name: spec for name, spec in tunable.items() if spec.search}
        kept = all(strategy.params.get(name, spec.default) == spec.default for name, spec in tunable.items())
        if tunable and kept and all(spec.imagenet is None for spec in declared.values()):
            found.append(part.name)
    return found


def _served(
    pair: PairPlan, strategies: Sequence[StrategyRef], recipes: Sequence[Recipe], lookup: Lookup, plan: BenchPlan
) -> dict[StrategyRef, Beside]:
    """The strategies that have cells on a pair: those with a bug, which fail in their turn, among them. Each with what
    it trains beside the student."""
    served: dict[StrategyRef, Beside] = {}
    for strategy in strategies:
        found = lookup.check(strategy, pair, recipes)
        where = (strategy.name, pair.teacher.model, pair.student, pair.data.name)
        plan.warn(found.warning)
        beside = trained_beside(strategy, found, pair.data, lookup)
        refused = found.refused or refused_beside(strategy, beside, pair, recipes, lookup)
        if refused:
            plan.refused.append(Refusal(*where, refused))
            continue
        if found.broken:
            plan.broken.append(Refusal(*where, found.broken))
        served[strategy] = beside
    return served


def _study(
    pair: PairPlan,
    strategy: StrategyRef,
    recipes: Recipes,
    space: dict[str, Range],
    config: BenchConfig,
    beside: Beside,
) -> StudyPlan:
    return StudyPlan(
        data=pair.data,
        teacher=pair.teacher,
        student=pair.student,
        strategy=strategy,
        recipe=recipes.student,
        trial_recipe=recipes.trial,
        space=space,
        trials=config.tune or 0,
        pruner=config.pruner,
        batch=config.tune_batch,
        init=pair.init,
        tuner=TUNER,
        protocol=PROTOCOL,
        hops=beside.hops,
        peer=beside.peer,
    )


@dataclass(frozen=True)
class BenchResult:
    """What came of a bench: the cells of its board, the studies, and the records that there are, trials included."""

    cells: list[Cell]
    studies: list[Study]
    records: list[Record]


def find_finished(plan: BenchPlan, store: Store, *, only_tune: bool = False) -> BenchResult | None:
    """What :func:`kdzoo.bench.session.run_bench` would give without running anything.

    Args:
        plan: the bench.
        store: where its cells live; nothing is written.
        only_tune: whether final cells are left out.

    Returns:
        None where a cell or a study is not done, failed, or left something behind that a bench would tidy up.
    """
    cells = [cell for cell in plan.cells if cell.kind == "teacher" or not only_tune]
    found = [store.find_study(study.id) for study in plan.studies]
    studies = [study for study in found if study and study.finished]
    if len(studies) < len(plan.studies) or any(trial.state == "failed" for one in studies for trial in one.trials):
        return None
    trials = [trial.cell for study in studies for trial in study.trials]
    finals = [] if only_tune else [cell for study in studies for cell in study.finals(range(plan.seeds))]
    records: dict[str, Record] = {}
    for cell_id in [*(cell.id for cell in cells), *trials, *(cell.id for cell in finals)]:
        if cell_id not in records:
            record = _done(cell_id, store)
            if record is None:
                return None
            records[cell_id] = record
    whole = {cell.id: cell for cell in [*cells, *finals]}
    return BenchResult(list(whole.values()), studies, list(records.values()))


def _done(cell_id: str, store: Store) -> Record | None:
    """The record of a cell that was not a failure, and whose folder holds nothing half done."""
    record = store.find_record(cell_id)
    if record is None or record.status == "failed":
        return None
    names = os.listdir(store.folder(cell_id))  # noqa: PTH208  (names are enough)
    tidy = "cell.json" in names and not any(name.startswith((".", "checkpoint-")) for name in names)
    return record if tidy else None
