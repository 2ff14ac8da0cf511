"""Checks of hyperparameters: their validation, their search space, and whether they change anything."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdzoo.combination import parts_of
from kdzoo.engine.devices import seed_everything
from kdzoo.errors import KdzooError, PairError, UsageError
from kdzoo.parameters import Param, Value
from kdzoo.recipe import Recipe
from kdzoo.space import Range, strategy_space
from kdzoo.strategy import Strategy
from kdzoo.testing.kit import Check, CheckResult, failed, passed, skipped, warned
from kdzoo.testing.kit.instruments import same
from kdzoo.testing.kit.subject import MOMENTS, MOST_TRIED, Moment, Subject, TooLongError
from kdzoo.testing.kit.synthetic import Call

_SAMPLES = 20


def _parameters(subject: Subject) -> CheckResult:
    kind = subject.kind
    declared = kind.hyperparameters()
    tried = 0
    for name, spec in declared.items():
        try:
            kind.resolve({name: object()})
        except UsageError:
            pass
        else:
            return failed(f"{name} accepts a value of any type")
        for value in _edges(spec):
            try:
                message = _broken_by(subject, {name: value})
            except TooLongError:
                continue
            if message:
                return failed(message)
            tried += 1
    if bare := sorted(set(_bare_numbers(kind)) - set(declared)):
        return warned(f"{', '.join(bare)} is a plain number of the class: nobody can set, see or tune it")
    if idle := [name for name, spec in declared.items() if _is_idle(subject, name, spec)]:
        seen = "changes a term, a gradient, a step, a phase, a shape or a prediction"
        return warned(f"no value that was tried of {', '.join(idle)} {seen}")
    return passed(f"{tried} values at the edges of {len(declared)} parameters") if declared else skipped("it has none")


def _bare_numbers(kind: type[Strategy]) -> Iterator[str]:
    """Numbers in the class body that are neither of the contract, nor private, nor said to be constants."""
    for base in (base for part in parts_of(kind) for base in part.__mro__[: part.__mro__.index(Strategy)]):
        constant = {name for name, annotation in inspect.get_annotations(base).items() if "ClassVar" in str(annotation)}
        for name, value in vars(base).items():
            own = not (hasattr(Strategy, name) or name.startswith("_") or name.isupper() or name in constant)
            if own and isinstance(value, (int, float)):
                yield name


def _edges(spec: Param) -> Iterator[Value]:
    """Valid values that are most likely to break something: bounds, and 0 and -1 where no bound forbids them.

    Large values are left out: they cost memory, and an unbounded top is the rule.
    """
    if spec.choices or spec.type is bool:
        yield from spec.choices or (True, False)
    elif spec.type in (int, float):
        for edge in (spec.ge, spec.le, 0, -1):
            if edge is not None and _is_valid(spec, value := spec.type(edge)):
                yield value


def _is_idle(subject: Subject, name: str, spec: Param) -> bool:
    """Whether a parameter changes nothing that can be seen, at any moment of a training."""
    own = subject.params.get(name, spec.default)
    values = [spec.default, *_edges(spec), *(_around(spec, own) if spec.type in (int, float) else ())]
    if _names_networks(subject, name, values):
        return False
    others = [subject.with_params({name: value}) for value in dict.fromkeys(values) if value != own]
    return _changes_nothing(subject, others)


def _names_networks(subject: Subject, name: str, values: Sequence[Value]) -> bool:
    """Whether a parameter decides which networks are trained beside the student, not how one learns."""
    kind = subject.kind
    found: list[object] = []
    for value in values:
        given = kind.resolve({**subject.params, name: value})
        try:
            found.append([[hop for hop, _ in kind.hops(given, "student")], kind.peer(given, "teacher", "student")])
        except PairError:
            found.append(None)
    return any(one != found[0] for one in found)


def _around(spec: Param, own: Value) -> Iterator[Value]:
    """Ordinary values of a number beside the one that it has."""
    here = float(own)
    for value in (here / 2, 2 * here, here + 1, *(spec.search or ())):
        if _is_valid(spec, other := spec.type(value)):
            yield other


def _is_valid(spec: Param, value: Value) -> bool:
    try:
        spec.check("value", value)
    except UsageError:
        return False
    return True


def _broken_by(subject: Subject, params: Mapping[str, Any], *, may_refuse: bool = True) -> str:
    """What goes wrong with these values, which were accepted.

    Args:
        subject: the strategy.
        params: the values.
        may_refuse: whether a refusal in a sentence is fine, as of a value that somebody set.

    Raises:
        TooLongError: with them its phases are too long to be tried.
    """
    said = ", ".join(f"{name}={value}" for name, value in params.items())
    try:
        call = subject.with_params(params).call()
    except TooLongError:
        raise
    except (UsageError, PairError) as error:
        return "" if may_refuse else f"its own search range holds {said}, and it refuses that: {error}"
    except Exception as error:
        # Any other error is one that a user's `--set` would meet in the middle of a bench.
        return f"{said} is accepted, and then {type(error).__name__}: {error}"
    return f"{said} is accepted, and {call.fault}" if call.fault else ""


def _search(subject: Subject) -> CheckResult:
    kind = subject.kind
    numbers = [
        name
        for name, spec in kind.hyperparameters().items()
        if spec.type in (int, float) and not _names_networks(subject, name, [spec.default, *_edges(spec)])
    ]
    try:
        space = strategy_space(kind.name, kind.hyperparameters(), {})
    except KdzooError as error:
        return failed(str(error))
    if not space:
        message = f"nothing is searched of {', '.join(numbers)}"
        return warned(message) if numbers else skipped("it has no number to tune")
    draw, tried = np.random.default_rng(0), 0
    for _ in range(_SAMPLES):
        values = {name.removeprefix(f"{kind.name}."): _sample(one, draw) for name, one in space.items()}
        try:
            kind.resolve(values)
        except UsageError as error:
            return failed(f"its own search range holds a value that is refused: {error}")
        try:
            message = _broken_by(subject, values, may_refuse=False)
        except TooLongError:
            continue
        if message:
            return failed(message)
        tried += 1
    ranges = ", ".join(f"{name} {one}" for name, one in space.items())
    if tried == _SAMPLES:
        return passed(f"{_SAMPLES} samples of {ranges}")
    left = f"{_SAMPLES - tried} whose phases need more than {MOST_TRIED} epochs are left out"
    return passed(f"{tried} of {_SAMPLES} samples of {ranges}; {left}") if tried else warned(f"of {ranges}, all {left}")


def _sample(one: Range, draw: np.random.Generator) -> float | int:
    """A value of a range, as tuning draws it at first."""
    if one.log:
        value = math.exp(draw.uniform(math.log(one.low), math.log(one.high)))
    else:
        value = draw.uniform(one.low, one.high)
    value = min(max(value, one.low), one.high)
    return round(value) if one.whole else value


def _changes_nothing(subject: Subject, others: Sequence[Subject]) -> bool:
    """Whether all of some variants of a strategy act like itself, at every moment of a training."""
    return bool(others) and all(_acts_like(other, subject) for other in others)


def _acts_like(other: Subject, subject: Subject) -> bool:
    try:
        return all(same(_look(other, moment), _look(subject, moment)) for moment in MOMENTS)
    except Exception:
        return False  # whatever breaks by it reads it


def _look(subject: Subject, moment: Moment) -> list[object]:
    """Everything that a parameter may change."""
    call = subject.call(moment=moment)
    shapes = {name: value.shape for name, value in call.strategy.state_dict().items() if isinstance(value, Tensor)}
    phases = [call.strategy.phases(epochs) for epochs in (subject.epochs, MOST_TRIED)]
    return [
        call.values,
        call.gradients(),
        call.strategy.ce_weight,
        shapes,
        phases,
        _own_gradients(call),
        _predictions(call),
        _own_steps(call),
    ]


@dataclass
class _Backward:
    """What the engine hands to ``Strategy.gradients``, of made-up networks."""

    parameters: tuple[Tensor, ...]

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        # The phases of one call share a graph, which must outlive the first of them.
        torch.autograd.backward(loss, retain_graph=True)


def _own_gradients(call: Call) -> list[Tensor | None]:
    """Those in its own parameters, or what it makes of each phase where it combines gradients in its own way."""
    own = [parameter for parameter in call.strategy.parameters() if parameter.requires_grad]
    if type(call.strategy).gradients is Strategy.gradients:
        total = call.total if call.terms else None
        if total is None or not own or not total.requires_grad:
            return []
        return list(torch.autograd.grad(total, own, retain_graph=True, allow_unused=True))
    seed_everything(0)
    parameters = (*call.student.sources, *own)
    found: list[Tensor | None] = []
    for phase, terms in call.phases:
        for parameter in parameters:
            parameter.grad = None
        whole = dict(terms)
        if phase.hard_labels and call.strategy.ce_weight:
            logits = call.strategy.predict(call.student.outputs).float()
            whole = {"ce": call.strategy.ce_weight * F.cross_entropy(logits, call.batch.targets)} | whole
        if whole:
            call.strategy.gradients(whole, _Backward(parameters))  # type: ignore[arg-type]
        found += [None if parameter.grad is None else parameter.grad.clone() for parameter in parameters]
    return found


def _predictions(call: Call) -> list[Tensor]:
    """The logits by which the student is trained, and those by which it is measured."""
    if type(call.strategy).predict is Strategy.predict:
        return []
    found = []
    for mode in (True, False):
        seed_everything(0)
        with torch.no_grad():
            found.append(call.strategy.train(mode).predict(call.student.outputs))
    return found


def _own_steps(call: Call) -> list[Tensor]:
    """Where the first two steps of an optimizer of the strategy's own lead, with gradients that stay the same."""
    if type(call.strategy).optimizer is Strategy.optimizer:
        return []
    _own_gradients(call)
    parameters = [source for source in call.student.sources if source.is_leaf]
    recipe = Recipe(name="check", epochs=2, batch_size=1, optimizer="momentum")
    made = torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum)
    optimizer = call.strategy.optimizer(made, recipe)
    for _ in range(2):
        optimizer.step()
    return [parameter.detach().clone() for parameter in parameters]


PARAMETERS = Check(
    name="parameters",
    verifies="hyperparameters are declared by `param`, refuse a wrong type, and work at the edges of what they "
    "accept: at their bounds, and at 0 and -1 where no bound forbids these; a warning where one changes nothing",
    matters="`--set` and tuning use every accepted value, and a value that breaks stops a bench midway",
    mend="declare `x: float = param(1.0, ..., gt=0)` with the bounds that the equation needs",
    run=_parameters,
    needs=("terms",),
)


SEARCH_SPACE = Check(
    name="search-space",
    verifies="at least one number has a `search` range, and 20 samples of the ranges build, run and stay finite; "
    "a warning where nothing is searched",
    matters="a strategy without ranges competes with its defaults against tuned strategies, and a range with "
    "invalid values wastes trials",
    mend="give weights and temperatures `search=(low, high)`, with `log=True` where useful values span magnitudes",
    run=_search,
    needs=("terms",),
)
