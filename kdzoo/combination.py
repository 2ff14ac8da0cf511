"""Combinations: ``soft+at`` adds the terms of two strategies; a modifier such as ``ls`` changes their signals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import nn

from kdzoo.declarations import Phase, alone, student_signals, teacher_signals
from kdzoo.errors import KdzooError, UsageError
from kdzoo.outputs import Batch, Outputs, Setup, only
from kdzoo.parameters import MOST_SEARCHED, Param, Value, param
from kdzoo.strategy import Strategy, Terms


class Combination(Strategy):
    """Base of the classes that :func:`kdzoo.combining.combine` makes.

    Each part is built as it would be alone and sees its own signals only. Its hyperparameters and terms carry its name,
    as in ``soft.temperature``. The hard-label loss has the combination's own weight, whatever the parts give it alone.
    A modifier among them has no terms and no phases: the parts that ask the teacher for what it modifies see that.
    """

    family = "combination"
    kinds: ClassVar[tuple[type[Strategy], ...]] = ()
    reduces: ClassVar[bool] = False

    ce_weight: float = param(1.0, "weight of the hard-label loss", ge=0.0)

    @classmethod
    def hyperparameters(cls) -> dict[str, Param]:
        """Those of the parts by full name, and ``ce_weight``; of what the parts search, no more than may be."""
        declared = {f"{kind.name}.{key}": spec for kind in cls.kinds for key, spec in kind.hyperparameters().items()}
        searched = set(searched_in_turn(cls.kinds)[:MOST_SEARCHED])
        kept = {
            name: spec if spec.search is None or name in searched else dataclasses.replace(spec, search=None)
            for name, spec in declared.items()
        }
        return kept | super().hyperparameters()

    @classmethod
    def resolve(cls, values: Mapping[str, Any]) -> dict[str, Value]:
        """See :meth:`kdzoo.Strategy.resolve`; a part may also refuse its values for reasons of its own."""
        found = super().resolve(values)
        for kind in cls.kinds:
            found |= {f"{kind.name}.{key}": value for key, value in kind.resolve(_values_of_part(kind, found)).items()}
        return found

    def build(self, setup: Setup) -> None:
        """Build the parts, in order.

        Raises:
            UsageError: the parts want different numbers of views, which their parameters may decide.
        """
        values = {name: getattr(self, name) for name in self.hyperparameters()}
        parts = []
        for kind in self.kinds:
            asked = teacher_signals(kind)
            own = dataclasses.replace(
                setup,
                classifier=setup.classifier if "classifier" in asked else None,
                pre_activations=setup.pre_activations if "pre_stages" in asked else None,
            )
            parts.append(kind(own, **_values_of_part(kind, values)))
        viewing = [part for part in parts if not part.modifies or part.views > 1]
        if len({part.views for part in viewing}) > 1:
            listed = ", ".join(f"{part.name} {part.views}" for part in viewing)
            raise UsageError(f"{self.name}: its parts want different numbers of views of a sample ({listed})")
        self.views = viewing[0].views
        self.parts = nn.ModuleList(parts)
        for alias, place, name in deployed_names(self.kinds):
            self.add_module(alias, parts[place].get_submodule(name))
        self._alone: dict[str, int] = {}
        self._main = ["main"] * len(parts)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """Those of the one part that has several; the others join it in its last one.

        Raises:
            UsageError: two parts have several, or the parts train different networks in the last one.
        """
        plans = [(Phase("main", epochs),) if part.modifies else part.phases(epochs) for part in self.each()]
        several = [place for place, plan in enumerate(plans) if len(plan) > 1]
        if len(several) > 1:
            first, second = (self.kinds[place].name for place in several[:2])
            raise UsageError(f"{self.name}: {first} and {second} both have phases of their own, which cannot be joined")
        lasts = [plan[-1] for plan in plans]
        joining = {kind.name: last for kind, last in zip(self.kinds, lasts, strict=True) if not kind.modifies}
        if len({last.trains for last in joining.values()}) > 1:
            listed = ", ".join(f"{name} {last.trains}" for name, last in joining.items())
            raise UsageError(f"{self.name}: its parts cannot train together, as they train different things ({listed})")
        leader = several[0] if several else [kind.name for kind in self.kinds].index(next(iter(joining)))
        self._alone = {phase.name: leader for phase in plans[leader][:-1]}
        self._main = [last.name for last in lasts]
        joined = dataclasses.replace(
            lasts[leader],
            hard_labels=any(last.hard_labels for last in joining.values()),
            teacher=any(last.teacher for last in joining.values()),
        )
        return (*plans[leader][:-1], joined)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms of all parts, each under ``part.term``; in a phase that one part brings, those of that part."""
        terms: Terms = {}
        alone = self._alone.get(batch.phase)
        changed: tuple[Outputs, Outputs] | None = None
        for place, part in enumerate(self.each()):
            kind = self.kinds[place]
            if kind.modifies or alone not in (None, place):
                continue
            seen = batch if alone == place else dataclasses.replace(batch, phase=self._main[place])
            mine, theirs = only(student, student_signals(kind)), self.outputs_of(teacher, kind)
            weight = 1.0
            if teacher.values and sees_modified(kind, self.kinds):
                changed = changed or modified(self._modifiers(), student, partial(self.outputs_of, teacher), batch)
                mine, theirs = overlaid(mine, changed[0]), overlaid(theirs, changed[1])
                weight = term_weight(kind, self.each())
            own: Any = part(mine, theirs, seen)
            if not isinstance(own, dict):
                listed = type(own).__name__
                raise KdzooError(f"forward of {kind.name} must give a dict such as {{'kd': loss}}, not a {listed}")
            terms |= {f"{kind.name}.{name}": value if weight == 1 else weight * value for name, value in own.items()}
        return terms

    def outputs_of(self, teacher: Outputs, kind: type[Strategy]) -> Outputs:
        """What one part is given of the teacher, before any modifier."""
        if not self.reduces:
            return only(teacher, teacher_signals(kind))
        own = _outputs_of_part(teacher, kind.name)
        # Behind a modifier the part reduces the teacher's signals itself.
        return Outputs(own.values) if sees_modified(kind, self.kinds) else own

    def each(self) -> Iterator[Strategy]:
        """The parts, in order."""
        for part in self.parts:
            assert isinstance(part, Strategy)
            yield part

    def _modifiers(self) -> Iterator[Strategy]:
        return (part for part, kind in zip(self.each(), self.kinds, strict=True) if kind.modifies)


def parts_of(kind: type[Strategy]) -> tuple[type[Strategy], ...]:
    """The strategies that a combination consists of; any other strategy itself."""
    return kind.kinds if issubclass(kind, Combination) else (kind,)


def deployed_names(kinds: Sequence[type[Strategy]]) -> list[tuple[str, int, str]]:
    """(alias in the combination, place of the part, name in the part) of each module that stays with the student."""
    return [(f"{kind.name}_{name}", place, name) for place, kind in enumerate(kinds) for name in kind.deployed]


def _outputs_of_part(outputs: Outputs, name: str) -> Outputs:
    """What one part asked the teacher's signals to be reduced to."""
    prefix = f"{name}."
    values = {key.removeprefix(prefix): one for key, one in outputs.values.items() if key.startswith(prefix)}
    return Outputs(values, reduced=outputs.reduced)


def _values_of_part(kind: type[Strategy], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one part, by its own names."""
    return {key: values[f"{kind.name}.{key}"] for key in kind.hyperparameters()}


def searched_in_turn(kinds: Sequence[type[Strategy]]) -> list[str]:
    """What the parts search, by full name: the first parameter of each part, then the second of each, and so on."""
    searched = [[key for key, spec in kind.hyperparameters().items() if spec.search] for kind in kinds]
    longest = max((len(keys) for keys in searched), default=0)
    return [
        f"{kind.name}.{keys[turn]}"
        for turn in range(longest)
        for kind, keys in zip(kinds, searched, strict=True)
        if turn < len(keys)
    ]


def sees_modified(kind: type[Strategy], kinds: Iterable[type[Strategy]]) -> bool:
    """Whether a part asks the teacher for something that one of these modifies."""
    return not kind.modifies and any(teacher_signals(kind) & set(each.modifies) for each in kinds)


def check_modifiers(name: str, kinds: Sequence[type[Strategy]]) -> None:
    """Refuse modifiers of what nobody sees.

    Raises:
        UsageError: there is one.
    """
    others = [kind.name for kind in kinds if not kind.modifies]
    for kind in kinds:
        if kind.modifies and not others:
            raise UsageError(f"{name}: {alone(kind.name, kind.modifies)}")
        if kind.modifies and not any(sees_modified(other, [kind]) for other in kinds):
            raise UsageError(
                f"{name}: {kind.name} changes the teacher's {' and '.join(kind.modifies)}, for which "
                f"{' and '.join(others)} {'do' if len(others) > 1 else 'does'} not ask: leave {kind.name} out"
            )


def modified(
    modifiers: Iterable[Strategy], student: Outputs, teacher_of: Callable[[type[Strategy]], Outputs], batch: Batch
) -> tuple[Outputs, Outputs]:
    """Of both networks, the signals that the modifiers change, one after the other.

    Args:
        modifiers: in their order.
        student: the student's signals.
        teacher_of: what each of them is given of the teacher, before any modifier.
        batch: the labels and whatever else is known.
    """
    changed = Outputs({}), Outputs({})
    for modifier in modifiers:
        kind = type(modifier)
        mine = overlaid(only(student, student_signals(kind)), changed[0])
        theirs = overlaid(Outputs(teacher_of(kind).values), changed[1])
        found = modifier.modify(mine, theirs, batch)
        changed = _joined(changed[0], found[0], kind), _joined(changed[1], found[1], kind)
    return changed


def overlaid(outputs: Outputs, changed: Outputs) -> Outputs:
    """The signals, as they were changed where they were."""
    return Outputs({name: changed.values.get(name, value) for name, value in outputs.values.items()})


def _joined(changed: Outputs, found: Outputs, modifier: type[Strategy]) -> Outputs:
    """What was changed so far, and what one more modifier changes."""
    return Outputs({**changed.values, **only(found, modifier.modifies).values})


def term_weight(kind: type[Strategy], parts: Iterable[Strategy]) -> float:
    """By what the modifiers among the parts multiply the terms of one of them."""
    return math.prod(part.term_weight for part in parts if sees_modified(kind, [type(part)]))
