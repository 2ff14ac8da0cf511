"""The plan of a bench: everything that can be wrong is found here, before anything trains or is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kdzoo import foreign
from kdzoo.bench.build import check_ranges, make_setup
from kdzoo.bench.teachers import choose_init, resolve_teacher, teacher_network
from kdzoo.cell import PROTOCOL, Cell, DataRef, ModelRef, StrategyRef, TeacherRef
from kdzoo.config import BenchConfig
from kdzoo.data.load import LoadedData, open_data
from kdzoo.declarations import Profile, Signature, pair_stages
from kdzoo.engine.devices import check_precision, pick_device
from kdzoo.engine.optim import check_recipe
from kdzoo.errors import PairError, UsageError
from kdzoo.interruption import heed
from kdzoo.matrix import (
    Recipes,
    resolve_recipes,
    resolve_spaces,
    resolve_strategies,
    student_cells,
    teacher_cell,
    tried_first,
)
from kdzoo.models.folders import name_by_content
from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import check_model, create_model, profile_model
from kdzoo.outputs import Classifier
from kdzoo.process_state import ProcessState
from kdzoo.registry import Registry
from kdzoo.signals import student_signals, teacher_signals
from kdzoo.space import Range
from kdzoo.strategy import Setup, Strategy
from kdzoo.study import TUNER, StudyPlan


@dataclass(frozen=True)
class Refusal:
    """A strategy that cannot serve a pair, and why."""

    strategy: str
    teacher: ModelRef
    student: ModelRef
    data: str
    reason: str


@dataclass(frozen=True)
class ModelPlan:
    """A network's shapes and size on a dataset.

    Args:
        signature: its shapes.
        profile: its size.
        classifier: its last linear layer with blank values, or why it has none.
    """

    signature: Signature
    profile: Profile
    classifier: Classifier | PairError


@dataclass(frozen=True)
class PairPlan:
    """A pair on a dataset: shapes, sizes and the stages that face each other."""

    data: DataRef
    teacher: TeacherRef
    student: ModelRef
    teacher_plan: ModelPlan
    student_plan: ModelPlan
    stage_pairs: tuple[tuple[int, int], ...]


@dataclass
class BenchPlan:
    """What a bench will do. ``cells`` holds the teachers' trainings first, then the students'; ``studies`` what is
    tuned, whose winners are trained with ``seeds`` after them.

    ``refused`` are strategies that cannot serve a pair and have no cells there; ``broken`` are those with a bug, whose
    cells run and fail. ``inputs`` tells how teachers from files are shown images, ``warnings`` what may be wrong with
    those files, and what plugins changed of the process and had put back.
    """

    device: torch.device
    data: dict[DataRef, LoadedData] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    pairs: list[PairPlan] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    broken: list[Refusal] = field(default_factory=list)
    studies: list[StudyPlan] = field(default_factory=list)
    seeds: int = 0
    inputs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def later(self, *, only_tune: bool = False) -> list[Cell]:
        """Stand-ins for the cells that tuning will add, whose values are not known yet: as many, and as long."""
        found: list[Cell] = []
        for study in self.studies:
            found += [study.trial(study.defaults())] * study.length
            found += [] if only_tune else [study.final(study.defaults(), 0)] * self.seeds
        return found


def make_plan(config: BenchConfig, registry: Registry) -> BenchPlan:
    """Resolve a configuration against plugins, data and models.

    Raises:
        UsageError: the first thing that is wrong.
    """
    strategies = resolve_strategies(config, registry)
    recipes = resolve_recipes(config)
    spaces = resolve_spaces(config, strategies, recipes.student, registry) if config.tune else {}
    firsts = tried_first(config, spaces, registry) if config.tune else {}
    plan = BenchPlan(pick_device(config.device), seeds=config.seeds)
    for recipe in (recipes.student, recipes.teacher):
        check_precision(plan.device, recipe.precision)
    pairs = [(_model(teacher), _model(student)) for teacher, student in config.all_pairs()]
    for ref in dict.fromkeys(ref for pair in pairs for ref in pair):
        check_model(ref)

    trainings: dict[str, Cell] = {}
    students: dict[str, Cell] = {}
    studies: list[StudyPlan] = []
    for name in config.dataset:
        data = open_data(
            name,
            registry.find_dataset,
            data_dir=Path(config.data_dir) if config.data_dir else None,
            download=config.download,
            img_size=config.size(),
        )
        for recipe in (recipes.student, recipes.teacher):
            check_recipe(recipe, data.ref.fit)
            data.check_recipe(recipe)
        plan.data[data.ref] = data
        plan.warnings += [data.changed] if data.changed else []
        teachers: dict[ModelRef, TeacherRef] = {}
        for ref in dict.fromkeys(teacher for teacher, _ in pairs):
            found = resolve_teacher(
                ref, config.teacher_weights, data, recipes.teacher, strategies[0], config.teacher_input
            )
            teachers[ref] = found.ref
            if found.file and found.ref.digest:
                plan.files[found.ref.digest] = found.file
            plan.inputs += [found.line] if found.line else []
            plan.warnings += [found.warning] if found.warning else []
        teacher_plans = {ref: _plan_model(teacher_network(one, data), data) for ref, one in teachers.items()}
        inits = {
            ref: choose_init(ref, config.student_init, data) for ref in dict.fromkeys(student for _, student in pairs)
        }
        student_plans = {
            ref: _plan_model(create_model(ref, data.ref, data.mean, data.std, own_input=init != "random"), data)
            for ref, init in inits.items()
        }
        for teacher_ref, student in pairs:
            teacher = teachers[teacher_ref]
            training = teacher_cell(teacher, data.ref)
            if training:
                trainings.setdefault(training.id, training)
            pair = PairPlan(
                data.ref,
                teacher,
                student,
                teacher_plans[teacher_ref],
                student_plans[student],
                pair_stages(student_plans[student].signature, teacher_plans[teacher_ref].signature),
            )
            plan.pairs.append(pair)
            served = _served(pair, strategies, recipes, registry, plan)
            init = inits[student]
            for cell in student_cells(data.ref, (teacher, student), served, recipes.student, config.seeds, init):
                students.setdefault(cell.id, cell)
            for strategy in served:
                if config.tune and spaces[strategy]:
                    _check_ranges(pair, firsts[strategy], spaces[strategy], recipes, registry, plan)
                    studies.append(_study(pair, firsts[strategy], recipes, spaces[strategy], config, init))
    plan.cells = [*trainings.values(), *students.values()]
    plan.studies = list({study.id: study for study in studies}.values())
    return plan


def _model(text: str) -> ModelRef:
    return name_by_content(ModelRef.parse(text))


def _check_ranges(
    pair: PairPlan,
    strategy: StrategyRef,
    space: dict[str, Range],
    recipes: Recipes,
    registry: Registry,
    plan: BenchPlan,
) -> None:
    kind = registry.of(strategy).value
    where = (strategy.name, pair.teacher.model, pair.student, pair.data.name)
    if where in ((one.strategy, one.teacher, one.student, one.data) for one in plan.broken):
        return  # a plugin with a bug, which was told
    text = f"{pair.teacher.model} -> {pair.student} on {pair.data.name}"
    check_ranges(strategy, kind, space, _setup(pair, kind), recipes.trial.epochs, text)


def _study(
    pair: PairPlan,
    strategy: StrategyRef,
    recipes: Recipes,
    space: dict[str, Range],
    config: BenchConfig,
    init: str,
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
        init=init,
        tuner=TUNER,
        protocol=PROTOCOL,
    )


def _plan_model(model: TappedModel, data: LoadedData) -> ModelPlan:
    classifier: Classifier | PairError
    try:
        weight, bias = model.classifier()
        classifier = Classifier(torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias))
    except PairError as error:
        classifier = error
    return ModelPlan(model.signature(), profile_model(model, data.ref), classifier)


def _served(
    pair: PairPlan, strategies: Sequence[StrategyRef], recipes: Recipes, registry: Registry, plan: BenchPlan
) -> list[StrategyRef]:
    """The strategies that run on a pair; each is built once, from shapes, to find out which cannot serve it.

    Raises:
        UsageError: a strategy's phases do not fit into the epochs.
    """
    served = []
    lengths = dict.fromkeys((recipes.student.epochs, recipes.trial.epochs))
    for strategy in strategies:
        entry = registry.of(strategy)
        kind = entry.value
        where = (strategy.name, pair.teacher.model, pair.student, pair.data.name)
        state = ProcessState.now()
        try:
            built = kind(_setup(pair, kind), **strategy.params)
            planned = {length: sum(phase.epochs for phase in built.phases(length)) for length in lengths}
        except PairError as error:
            plan.refused.append(Refusal(*where, str(error)))
            continue
        except UsageError:
            raise
        except BaseException as error:
            heed(error)
            # A plugin's bug: told now, and its cells fail in their turn with the traceback, and the others run.
            plan.broken.append(Refusal(*where, foreign.sentence(error, entry.homes)))
        else:
            for length, total in planned.items():
                if total != length:
                    raise UsageError(f"the phases of {strategy.name} take {total} epochs, and the recipe has {length}")
        finally:
            state.put_back()
            told = f"{strategy.name} {state.told()}"
            plan.warnings += [told] if state.changed and told not in plan.warnings else []
        served.append(strategy)
    return served


def _setup(pair: PairPlan, kind: type[Strategy]) -> Setup:
    """What the strategy will be built from.

    Raises:
        PairError: it asks for the classifier of a network that has none.
    """
    for signals, network in ((student_signals(kind), pair.student_plan), (teacher_signals(kind), pair.teacher_plan)):
        if "classifier" in signals and isinstance(network.classifier, PairError):
            raise network.classifier
    blank = pair.teacher_plan.classifier if "classifier" in teacher_signals(kind) else None
    return make_setup(
        pair.student_plan.signature,
        pair.teacher_plan.signature,
        pair.data,
        blank if isinstance(blank, Classifier) else None,
    )
