"""Configuration -> cells: which teachers are trained, and which strategy is trained on which pair with which seed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from kdzoo.cell import Cell
from kdzoo.config import BenchConfig
from kdzoo.declarations import alone
from kdzoo.errors import UsageError, unknown
from kdzoo.flags import split_list
from kdzoo.recipe import Augment, Recipe
from kdzoo.refs import Balance, DataRef, Hop, ModelRef, Scalar, StrategyRef, TeacherRef
from kdzoo.space import Range, paper_values, recipe_space, strategy_space
from kdzoo.yamltext import read_scalar, read_yaml, validate

if TYPE_CHECKING:
    from kdzoo.registry import Registered, Registry
    from kdzoo.strategy import Strategy

BASELINE = "ce"
"""The strategy that every pair gets: the student alone."""

_Origin: TypeAlias = tuple[str, str]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Recipes:
    """The recipes of a bench, with all its changes: the students', the teachers' and that of tuning's trials."""

    student: Recipe
    teacher: Recipe
    trial: Recipe


def resolve_recipes(config: BenchConfig) -> Recipes:
    """The recipes of students, teachers and trials.

    Raises:
        UsageError: a recipe is missing, malformed, or has a wrong key or value.
    """
    changes: dict[str, Any] = {
        key.partition(".")[2]: value for key, value in config.set.items() if key.startswith("recipe.")
    }
    if config.precision is not None:
        changes["precision"] = config.precision
    if config.views is not None:
        changes["views"] = config.views
    students = changes | ({"epochs": config.epochs} if config.epochs else {})
    # A recipe that was named for the teacher stands as it is: what is tried on the students must not move it.
    # Fewer views spare passes of the teacher; it has none of its own to spare.
    teachers = {} if config.teacher_recipe else {key: value for key, value in students.items() if key != "views"}
    if config.teacher_epochs:
        teachers["epochs"] = config.teacher_epochs
    return Recipes(
        student=load_recipe(config.recipe, students),
        teacher=load_recipe(config.teacher_recipe or config.recipe, teachers, teacher=config.teacher_recipe is None),
        trial=load_recipe(config.recipe, students | ({"epochs": config.tune_epochs} if config.tune_epochs else {})),
    )


def load_recipe(source: str, changes: Mapping[str, Any], *, teacher: bool = False) -> Recipe:
    """A recipe from a shipped name or a YAML file, with single changes, which show in its name.

    Args:
        source: a shipped name, or the path of a YAML file.
        changes: dotted keys such as ``lr`` or ``augment.crop`` -> value; a value that changes nothing is left out.
        teacher: whether the file's ``teacher``, dotted keys that differ for a teacher, counts too; ``changes`` wins.

    Raises:
        UsageError: the file is missing or malformed, or a key or value is wrong.
    """
    values = {"name": Path(source).stem, **read_yaml("recipes", source)}
    where = f"recipe {source}"
    of_teacher = values.pop("teacher", None) or {}
    if not isinstance(of_teacher, dict):
        raise UsageError(f"{where}: teacher must be a mapping of the recipe's keys to values, not {of_teacher!r}")
    if teacher:
        changes = {**of_teacher, **changes}
    base = validate(Recipe, values, where)
    changed = base.model_dump()
    for key, value in changes.items():
        known = [*Recipe.model_fields, *(f"augment.{field}" for field in Augment.model_fields)]
        known = [each for each in known if each not in ("name", "augment")]
        if key not in known:
            raise UsageError(unknown("key of the recipe", key, known))
        outer, _, inner = key.partition(".")
        if inner:
            changed["augment"][inner] = value
        else:
            changed[outer] = _numbers(value) if outer == "milestones" else value
    recipe = validate(Recipe, changed, where, {key: f"recipe.{key}" for key in changes})
    marks = [
        f"+{key.rpartition('.')[2]}={_plain(_at(recipe, key))}"
        for key in sorted(changes)
        if _at(recipe, key) != _at(base, key)
    ]
    return recipe.model_copy(update={"name": base.name + "".join(marks)})


def _at(recipe: Recipe, key: str) -> Any:
    outer, _, inner = key.partition(".")
    return getattr(recipe.augment, inner) if inner else getattr(recipe, outer)


def _numbers(value: Any) -> Any:
    """A list, which a flag writes with commas: ``0.5,0.75``."""
    return [read_scalar(piece) for piece in split_list(value.strip("[]"))] if isinstance(value, str) else [value]


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def resolve_strategies(config: BenchConfig, registry: Registry) -> list[StrategyRef]:
    """The strategies of a bench with all their parameters, the baseline first, each once.

    Raises:
        UsageError: an unknown strategy or parameter, or a value out of range.
    """
    asked: Iterable[str] = config.strategies
    if "all" in config.strategies:
        names = [entry.name for entry in registry.strategies]
        asked = [
            entry.name if names.count(entry.name) == 1 else f"{entry.plugin.distribution}:{entry.name}"
            for entry in registry.strategies
            if not entry.declared.modifies
        ]
    baseline = [name for name in config.strategies if name.rpartition(":")[2] == BASELINE]
    if baseline:
        registry.prefer(registry.strategy(baseline[0]))
    entries: dict[_Origin, Registered[type[Strategy]]] = {}
    for name in [BASELINE, *asked]:
        entry = registry.strategy(name)
        if entry.declared.modifies:
            raise UsageError(alone(entry.name, entry.declared.modifies))
        entries.setdefault((entry.plugin.distribution, entry.name), entry)
    _refuse_twins(entries.values())
    settings = _by_strategy("set", config.set, list(entries))
    searched = _by_strategy("search", config.search, list(entries))
    return [
        StrategyRef(
            name=entry.name,
            distribution=entry.plugin.distribution,
            revision=entry.declared.revision,
            params=_named(
                entry,
                registry.resolve(entry, imagenet_values(config, entry) | settings.get(origin, {})),
                searched.get(origin, {}),
            ),
        )
        for origin, entry in entries.items()
    ]


def imagenet_values(config: BenchConfig, entry: Registered[type[Strategy]]) -> dict[str, Scalar]:
    """The values that a strategy declares for ImageNet, where the bench asks for them."""
    if config.defaults != "imagenet":
        return {}
    return {name: spec.imagenet for name, spec in entry.declared.params.items() if spec.imagenet is not None}


def _named(
    entry: Registered[type[Strategy]], values: Mapping[str, Scalar], searched: Collection[str]
) -> dict[str, Scalar]:
    """The parameters that name a cell: all, but for those that older records do not know and that change nothing."""
    declared = entry.declared.params
    return {
        name: value
        for name, value in values.items()
        if name in searched or not (declared[name].added and value == declared[name].default)
    }


def _refuse_twins(entries: Iterable[Registered[type[Strategy]]]) -> None:
    """Refuse one combination in two orders, which would be two rows of one thing."""
    seen: dict[frozenset[_Origin], str] = {}
    for entry in entries:
        parts = frozenset((part.plugin.distribution, part.name) for part in entry.parts)
        if parts and seen.setdefault(parts, entry.name) != entry.name:
            raise UsageError(f"{seen[parts]} and {entry.name} are the same combination: leave one of them out")


def _by_strategy(word: str, table: Mapping[str, _T], origins: Sequence[_Origin]) -> dict[_Origin, dict[str, _T]]:
    """A bench's ``set`` or ``search`` by (distribution, name) of its strategies, each written ``name`` or in full."""
    found_by: dict[_Origin, dict[str, _T]] = {}
    for key, value in table.items():
        distribution, colon, rest = key.rpartition(":")
        name, dot, parameter = rest.partition(".")
        owner = distribution + colon + name
        if not dot or not parameter:
            raise UsageError(f"{word} {key}: write strategy.param or recipe.key")
        if owner == "recipe":
            continue
        found = [origin for origin in origins if owner in (origin[1], ":".join(origin))]
        if len(found) > 1:
            brought = " and ".join(distribution for distribution, _ in found)
            raise UsageError(f"{word} {key}: {name} is brought by {brought}; write {found[0][0]}:{key}")
        if not found:
            known = ["recipe", *(each for _, each in origins)]
            raise UsageError(f"{word} {key}: " + unknown("strategy of the bench", owner, known))
        found_by.setdefault(found[0], {})[parameter] = value
    return found_by


def resolve_spaces(
    config: BenchConfig, strategies: Sequence[StrategyRef], recipe: Recipe, registry: Registry
) -> dict[StrategyRef, dict[str, Range]]:
    """What tuning searches of each strategy and of the recipe; empty where there is nothing to search.

    Raises:
        UsageError: a range is wrong.
    """
    origins = [(strategy.distribution, strategy.name) for strategy in strategies]
    given = _by_strategy("search", config.search, origins)
    owned = {key.partition(".")[2]: text for key, text in config.search.items() if key.startswith("recipe.")}
    shared = recipe_space(recipe, config.tune_recipe, owned)
    spaces = {}
    for strategy, origin in zip(strategies, origins, strict=True):
        declared = registry.of(strategy).declared.params
        spaces[strategy] = strategy_space(strategy.name, declared, given.get(origin, {})) | shared
    return spaces


def tried_first(
    config: BenchConfig, spaces: Mapping[StrategyRef, Mapping[str, Range]], registry: Registry
) -> dict[StrategyRef, StrategyRef]:
    """Each strategy with the values of its trial 0: of what is searched, what was set by hand or is declared for
    ImageNet where the bench asks for that, else the paper's value where one is declared, else the default."""
    settings = _by_strategy("set", config.set, [(one.distribution, one.name) for one in spaces])
    found = {}
    for strategy, space in spaces.items():
        origin = (strategy.distribution, strategy.name)
        entry = registry.of(strategy)
        declared = entry.declared.params
        given = imagenet_values(config, entry) | settings.get(origin, {})
        first = paper_values(strategy.name, declared, space)
        params = strategy.params | {name: value for name, value in first.items() if name not in given}
        found[strategy] = strategy.model_copy(update={"params": params})
    return found


@dataclass(frozen=True)
class Beside:
    """What a strategy has on a pair beside the student: networks between, or a second one; and balanced terms."""

    hops: tuple[Hop, ...] = ()
    peer: ModelRef | None = None
    balance: Balance | None = None


def student_cells(
    data: DataRef,
    pair: tuple[TeacherRef, ModelRef],
    strategies: Sequence[StrategyRef],
    recipe: Recipe,
    seeds: int,
    init: str = "random",
    beside: Mapping[StrategyRef, Beside] | None = None,
) -> list[Cell]:
    """The cells of one pair, seed by seed, so that every strategy has its first seed before any has its second."""
    teacher, student = pair
    return [
        Cell(
            kind="student",
            data=data,
            student=student,
            teacher=teacher,
            strategy=strategy,
            recipe=recipe,
            seed=seed,
            init=init,
            **vars((beside or {}).get(strategy, Beside())),
        )
        for seed in range(seeds)
        for strategy in strategies
    ]


def cell_title(cell: Cell) -> str:
    """A cell in words, for progress and messages."""
    if cell.teacher is None:
        return f"{cell.kind} {cell.student} on {cell.data.name}"
    way = " -> ".join(str(each) for each in (cell.teacher.model, *(hop.student for hop in cell.hops), cell.student))
    second = f" with {cell.peer}" if cell.peer else ""
    where = f"{cell.strategy.name}{cell.mark} {way}{second} on {cell.data.name}"
    if cell.kind == "assistant":
        return f"assistant of {where} seed {cell.seed}"
    if cell.kind == "rung":
        return f"rung of {where}, to epoch {cell.until} of {cell.recipe.epochs}"
    return f"trial of {where}" if cell.kind == "trial" else f"{where} seed {cell.seed}"


def values_text(cell: Cell) -> str:
    """What a trial tries, for progress: the strategy's parameters, and the recipe's changed keys."""
    values: dict[str, Any] = dict(sorted(cell.strategy.params.items()))
    if cell.tuned_from:
        before = cell.tuned_from.model_dump()
        values |= {key: value for key, value in cell.recipe.model_dump().items() if value != before[key]}
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )
