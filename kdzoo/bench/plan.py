"""The plan of a bench: everything that can be wrong is found here, before anything trains or is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from kdzoo.bench.facts import DataFacts, NetworkFacts, PairCheck, PairPlan, facts_together
from kdzoo.bench.lookup import Lookup
from kdzoo.cell import PROTOCOL, Cell, DataRef, Hop, ModelRef, StrategyRef, TeacherRef
from kdzoo.config import BenchConfig
from kdzoo.declarations import pair_stages
from kdzoo.errors import UsageError
from kdzoo.matrix import (
    Beside,
    Recipes,
    assistant_cells,
    in_stages,
    resolve_recipes,
    resolve_spaces,
    resolve_strategies,
    student_cells,
    teacher_cell,
    tried_first,
)
from kdzoo.models.folders import name_by_content
from kdzoo.registry import Registry
from kdzoo.space import Range
from kdzoo.study import TUNER, StudyPlan

if TYPE_CHECKING:
    import torch

    from kdzoo.data.load import LoadedData


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
    cells run and fail. ``inputs`` says how teachers from files are shown images, ``warnings`` what may be wrong with
    those files, and what plugins changed of the process and had put back. ``device`` and ``data`` are there where the
    plugins were loaded; a plan from the cache cannot run.
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
    plan = BenchPlan(seeds=config.seeds)
    if device := lookup.device([recipe.precision for recipe in both]):
        plan.device = device
    pairs = [(_models(teacher), _model(student)) for teacher, student in config.all_pairs()]
    for ref in dict.fromkeys(ref for teachers, student in pairs for ref in (*teachers, student)):
        lookup.check_model(ref)

    trainings: dict[str, Cell] = {}
    students: dict[str, Cell] = {}
    studies: dict[str, StudyPlan] = {}
    lengths = list(dict.fromkeys((recipes.student.epochs, recipes.trial.epochs)))
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
        teachers = {refs: _together([known[ref].ref for ref in refs]) for refs, _ in pairs}
        teacher_plans = {teacher: _network(teacher, data.ref, lookup) for teacher in teachers.values()}
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
            served = _served(pair, strategies, lengths, lookup, plan)
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
    plan.studies = list(studies.values())
    plan.data = lookup.loaded
    return plan


def _model(text: str) -> ModelRef:
    return name_by_content(ModelRef.parse(text))


def _models(text: str) -> tuple[ModelRef, ...]:
    """The teacher of a text such as ``resnet10t``, or several of ``resnet10t+resnet14t``."""
    return tuple(map(name_by_content, ModelRef.parse_several(text)))


def _together(teachers: Sequence[TeacherRef]) -> TeacherRef:
    """A teacher alone as it is, several as one; one that is there again is trained again, with the next seed.

    Raises:
        UsageError: the weights of several are given, and not made here.
    """
    if len(teachers) == 1:
        return teachers[0]
    names = "+".join(str(teacher.model) for teacher in teachers)
    if any(teacher.weights == "file" for teacher in teachers):
        raise UsageError(
            f"--teacher-weights FILE holds one network, and {names} are {len(teachers)}: take --teacher-weights train, "
            "or pretrained"
        )
    members: list[TeacherRef] = []
    for teacher in teachers:
        again = [member for member in members if member.model == teacher.model]
        if again and teacher.seed is None:
            raise UsageError(f"{names}: {teacher.model} is there twice with the same weights, timm's; leave one out")
        members.append(teacher.model_copy(update={"seed": len(again)}) if again else teacher)
    return TeacherRef.of_several(members)


def _network(teacher: TeacherRef, data: DataRef, lookup: Lookup) -> NetworkFacts:
    found = [lookup.network(part, data) for part in teacher.parts]
    return facts_together(found) if teacher.members else found[0]


def _served(
    pair: PairPlan, strategies: Sequence[StrategyRef], lengths: Sequence[int], lookup: Lookup, plan: BenchPlan
) -> dict[StrategyRef, Beside]:
    """The strategies that have cells on a pair: those with a bug, which fail in their turn, among them. Each with what
    it trains beside the student."""
    served: dict[StrategyRef, Beside] = {}
    for strategy in strategies:
        found = lookup.check(strategy, pair, lengths)
        where = (strategy.name, pair.teacher.model, pair.student, pair.data.name)
        plan.warn(found.warning)
        beside = Beside(_hops(strategy, found, pair.data, lookup), _peer(found, lookup))
        refused = found.refused or _refused_beside(strategy, beside, pair, lengths, lookup)
        if refused:
            plan.refused.append(Refusal(*where, refused))
            continue
        if found.broken:
            plan.broken.append(Refusal(*where, found.broken))
        served[strategy] = beside
    return served


def _peer(found: PairCheck, lookup: Lookup) -> ModelRef | None:
    """The second student.

    Raises:
        UsageError: it is unknown.
    """
    if not found.peer:
        return None
    model = _model(found.peer)
    lookup.check_model(model)
    return model


def _hops(strategy: StrategyRef, found: PairCheck, data: DataRef, lookup: Lookup) -> tuple[Hop, ...]:
    """The networks between teacher and student.

    Raises:
        UsageError: one of them is unknown.
    """
    hops = []
    for text, params in found.hops:
        model = _model(text)
        lookup.check_model(model)
        named = strategy.model_copy(update={"params": {key: params[key] for key in strategy.params}})
        hops.append(Hop(student=model, strategy=named, init=lookup.start(model, data)))
    return tuple(hops)


def _refused_beside(
    strategy: StrategyRef, beside: Beside, pair: PairPlan, lengths: Sequence[int], lookup: Lookup
) -> str:
    """Why a strategy cannot serve the pairs on the way from the teacher to the student, or that of the two students;
    empty where it can."""
    if beside.peer:
        if pair.init != "random":
            return "its two students start from random weights: leave out --student-init pretrained"
        second = TeacherRef(model=beside.peer, weights="trained")
        facts = lookup.network(second, pair.data)
        stages = pair_stages(pair.student_plan.signature, facts.signature)
        both = PairPlan(pair.data, second, pair.student, pair.init, facts, pair.student_plan, stages)
        return lookup.check(strategy, both, lengths, between=True).refused
    teacher, facts = pair.teacher, pair.teacher_plan
    ends = [(hop.student, hop.init, hop.strategy) for hop in beside.hops]
    for student, init, taught in ends:
        own_input = init != "random"
        theirs = lookup.network(student, pair.data, own_input=own_input)
        stages = pair_stages(theirs.signature, facts.signature)
        way = PairPlan(pair.data, teacher, student, init, facts, theirs, stages)
        if refused := lookup.check(taught, way, lengths, between=True).refused:
            return f"on the way, {way}: {refused}"
        teacher = TeacherRef(model=student, weights="finetuned" if own_input else "trained")
        facts = lookup.network(teacher, pair.data)
    return ""


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
