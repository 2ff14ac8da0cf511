"""Checks of hyperparameters: their validation and their search space."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kdzoo.errors import KdzooError, PairError, UsageError
from kdzoo.parameters import Param, Value
from kdzoo.space import Range, strategy_space
from kdzoo.strategy import Strategy
from kdzoo.testing.check import Check, Verdict, failed, passed, skipped, warned
from kdzoo.testing.idle import changes_nothing
from kdzoo.testing.plans import MOST_EPOCHS, TooLongError
from kdzoo.testing.subject import Subject, parts_of

SAMPLES = 20


def _parameters(subject: Subject) -> Verdict:
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
                told = _broken_by(subject, {name: value})
            except TooLongError:
                continue
            if told:
                return failed(told)
            tried += 1
    if bare := sorted(set(_bare_numbers(kind)) - set(declared)):
        return warned(f"{', '.join(bare)} is a plain number of the class: nobody can set, see or tune it")
    if idle := [name for name, spec in declared.items() if _is_idle(subject, name, spec)]:
        told = "changes a term, a gradient, a phase, a shape or a prediction"
        return warned(f"no value that was tried of {', '.join(idle)} {told}")
    return passed(f"{tried} values at the edges of {len(declared)} parameters") if declared else skipped("it has none")


def _bare_numbers(kind: type[Strategy]) -> Iterator[str]:
    """Numbers in the class body that are neither of the contract, nor private, nor said to be constants."""
    for base in (base for part in parts_of(kind) for base in part.__mro__[: part.__mro__.index(Strategy)]):
        constant = {name for name, told in inspect.get_annotations(base).items() if "ClassVar" in str(told)}
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
    others = [subject.with_params({name: value}) for value in dict.fromkeys(values) if value != own]
    return changes_nothing(subject, others)


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


def _search(subject: Subject) -> Verdict:
    kind = subject.kind
    numbers = [name for name, spec in kind.hyperparameters().items() if spec.type in (int, float)]
    try:
        space = strategy_space(kind.name, kind.hyperparameters(), {})
    except KdzooError as error:
        return failed(str(error))
    if not space:
        told = f"nothing is searched of {', '.join(numbers)}"
        return warned(told) if numbers else skipped("it has no number to tune")
    draw, tried = np.random.default_rng(0), 0
    for _ in range(SAMPLES):
        values = {name.removeprefix(f"{kind.name}."): _sample(one, draw) for name, one in space.items()}
        try:
            kind.resolve(values)
        except UsageError as error:
            return failed(f"its own search range holds a value that is refused: {error}")
        try:
            told = _broken_by(subject, values, may_refuse=False)
        except TooLongError:
            continue
        if told:
            return failed(told)
        tried += 1
    ranges = ", ".join(f"{name} {one}" for name, one in space.items())
    if tried == SAMPLES:
        return passed(f"{SAMPLES} samples of {ranges}")
    left = f"{SAMPLES - tried} whose phases need more than {MOST_EPOCHS} epochs are left out"
    return passed(f"{tried} of {SAMPLES} samples of {ranges}; {left}") if tried else warned(f"of {ranges}, all {left}")


def _sample(one: Range, draw: np.random.Generator) -> float | int:
    """A value of a range, as tuning draws it at first."""
    if one.log:
        value = math.exp(draw.uniform(math.log(one.low), math.log(one.high)))
    else:
        value = draw.uniform(one.low, one.high)
    value = min(max(value, one.low), one.high)
    return round(value) if one.whole else value


PARAMETERS = (
    Check(
        name="parameters",
        verifies="hyperparameters are declared by `param`, refuse a wrong type, and work at the edges of what they "
        "accept: at their bounds, and at 0 and -1 where no bound forbids these; a warning where one changes nothing",
        matters="`--set` and tuning take what is accepted, and what breaks does so in the middle of a bench",
        mend="declare `x: float = param(1.0, ..., gt=0)` with the bounds that the equation needs",
        run=_parameters,
        needs=("terms",),
    ),
    Check(
        name="search-space",
        verifies="at least one number has a `search` range, and 20 samples of the ranges build, run and stay finite; "
        "a warning where nothing is searched",
        matters="a strategy without ranges competes at its defaults against tuned ones, and a range with a hole wastes "
        "trials",
        mend="give weights and temperatures `search=(low, high)`, with `log=True` where useful values span magnitudes",
        run=_search,
        needs=("terms",),
    ),
)
"""In the order in which they run."""
