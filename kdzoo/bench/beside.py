"""What a plan has beside plain pairs: several teachers as one, what strategies train beside the student, and balanced
terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdzoo.bench.facts import NetworkFacts, PairCheck, PairPlan, facts_together
from kdzoo.bench.lookup import Lookup
from kdzoo.cell import Cell
from kdzoo.declarations import pair_stages
from kdzoo.errors import UsageError
from kdzoo.matrix import BASELINE, Beside
from kdzoo.models.folders import name_by_content
from kdzoo.recipe import Recipe
from kdzoo.refs import BALANCE_RULE, Balance, DataRef, Hop, ModelRef, StrategyRef, TeacherRef


def named_model(text: str) -> ModelRef:
    """The model of a text, a folder's by its content."""
    return name_by_content(ModelRef.parse(text))


def named_teachers(text: str) -> tuple[ModelRef, ...]:
    """The teacher of a text such as ``resnet10t``, or several of ``resnet10t+resnet14t``."""
    return tuple(map(name_by_content, ModelRef.parse_several(text)))


def as_one(teachers: Sequence[TeacherRef]) -> TeacherRef:
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


def network_of(teacher: TeacherRef, data: DataRef, lookup: Lookup) -> NetworkFacts:
    """The shapes and the size of a teacher."""
    found = [lookup.network(part, data) for part in teacher.parts]
    return facts_together(found) if teacher.members else found[0]


def _peer(found: PairCheck, lookup: Lookup) -> ModelRef | None:
    """The second student.

    Raises:
        UsageError: it is unknown.
    """
    if not found.peer:
        return None
    model = named_model(found.peer)
    lookup.check_model(model)
    return model


def _balance(strategy: StrategyRef, found: PairCheck, lookup: Lookup) -> Balance | None:
    """How the strategy's terms are weighted; None where that is by its parameters, as of the baseline always."""
    ratio = lookup.config.balance
    if not (ratio and found.competes and strategy.name != BASELINE):
        return None
    return Balance(ratio=ratio, rule=BALANCE_RULE)


def _hops(
    strategy: StrategyRef, found: PairCheck, data: DataRef, lookup: Lookup, balance: Balance | None
) -> tuple[Hop, ...]:
    """The networks between teacher and student.

    Raises:
        UsageError: one of them is unknown.
    """
    hops = []
    for text, params in found.hops:
        model = named_model(text)
        lookup.check_model(model)
        named = strategy.model_copy(update={"params": {key: params[key] for key in strategy.params}})
        hops.append(Hop(student=model, strategy=named, init=lookup.start(model, data), balance=balance))
    return tuple(hops)


def refused_beside(
    strategy: StrategyRef, beside: Beside, pair: PairPlan, recipes: Sequence[Recipe], lookup: Lookup
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
        return lookup.check(strategy, both, recipes, between=True).refused
    teacher, facts = pair.teacher, pair.teacher_plan
    ends = [(hop.student, hop.init, hop.strategy) for hop in beside.hops]
    for student, init, taught in ends:
        own_input = init != "random"
        theirs = lookup.network(student, pair.data, own_input=own_input)
        stages = pair_stages(theirs.signature, facts.signature)
        way = PairPlan(pair.data, teacher, student, init, facts, theirs, stages)
        if refused := lookup.check(taught, way, recipes, between=True).refused:
            return f"on the way, {way}: {refused}"
        teacher = TeacherRef(model=student, weights="finetuned" if own_input else "trained")
        facts = lookup.network(teacher, pair.data)
    return ""


def trained_beside(strategy: StrategyRef, found: PairCheck, data: DataRef, lookup: Lookup) -> Beside:
    """What a strategy trains on a pair beside the student, and how its terms are weighted.

    Raises:
        UsageError: one of the networks is unknown.
    """
    balance = _balance(strategy, found, lookup)
    return Beside(_hops(strategy, found, data, lookup, balance), _peer(found, lookup), balance)


def balance_lines(ratio: float, cells: Iterable[Cell]) -> list[str]:
    """What is said of a bench whose terms are balanced: which strategies have no terms that could be.

    Args:
        ratio: 0 where nothing is balanced.
        cells: of the bench.
    """
    students = [cell for cell in cells if cell.kind == "student" and cell.strategy.name != BASELINE]
    plain = dict.fromkeys(cell.strategy.name for cell in students if not cell.balance)
    if not ratio:
        return []
    kept = f"; unchanged, as their terms do not stand beside hard labels: {', '.join(plain)}" if plain else ""
    return [f"terms balanced to {ratio:g} times the gradient of the labels (rule {BALANCE_RULE}){kept}"]
