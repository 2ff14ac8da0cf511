"""Combinations: ``soft+at`` is a strategy of two, whose terms are added. :mod:`kdzoo.combine` makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from kdzoo.errors import KdzooError, UsageError
from kdzoo.outputs import Batch, Outputs
from kdzoo.parameters import MOST_SEARCHED, Param, Value, param
from kdzoo.signals import student_signals, teacher_signals
from kdzoo.strategy import Phase, Setup, Strategy, Terms


class Combination(Strategy):
    """Base of the classes that :func:`kdzoo.combine.combine` makes.

    Each part is built as it would be alone and sees its own signals only. Its hyperparameters and terms carry its name,
    as in ``soft.temperature``. The hard-label loss has the combination's own weight, whatever the parts give it alone.
    """

    family = "combination"
    kinds: ClassVar[tuple[type[Strategy], ...]] = ()
    reduces: ClassVar[bool] = False

    ce_weight: float = param(1.0, "weight of the hard-label loss", ge=0.0)

    @classmethod
    def hyperparameters(cls) -> dict[str, Param]:
        """Those of the parts by full name, and ``ce_weight``; of what the parts search, no more than may be."""
        declared = {f"{kind.name}.{key}": spec for kind in cls.kinds for key, spec in kind.hyperparameters().items()}
        searched = set(in_turn(cls.kinds)[:MOST_SEARCHED])
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
            found |= {f"{kind.name}.{key}": value for key, value in kind.resolve(values_of(kind, found)).items()}
        return found

    def build(self, setup: Setup) -> None:
        """Build the parts, in order."""
        values = {name: getattr(self, name) for name in self.hyperparameters()}
        parts = []
        for kind in self.kinds:
            blind = "classifier" not in teacher_signals(kind)
            own = dataclasses.replace(setup, classifier=None) if blind else setup
            parts.append(kind(own, **values_of(kind, values)))
        self.parts = nn.ModuleList(parts)
        for alias, place, name in deployed(self.kinds):
            self.add_module(alias, parts[place].get_submodule(name))
        self._alone: dict[str, int] = {}
        self._main = ["main"] * len(parts)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        """Those of the one part that has several; the others join it in its last one.

        Raises:
            UsageError: two parts have several, or the parts train different networks in the last one.
        """
        plans = [part.phases(epochs) for part in self.each()]
        several = [place for place, plan in enumerate(plans) if len(plan) > 1]
        if len(several) > 1:
            first, second = (self.kinds[place].name for place in several[:2])
            raise UsageError(f"{self.name}: {first} and {second} both have phases of their own, which cannot be joined")
        lasts = [plan[-1] for plan in plans]
        if len({last.trains for last in lasts}) > 1:
            told = ", ".join(f"{kind.name} {last.trains}" for kind, last in zip(self.kinds, lasts, strict=True))
            raise UsageError(f"{self.name}: its parts cannot train together, as they train different things ({told})")
        leader = several[0] if several else 0
        self._alone = {phase.name: leader for phase in plans[leader][:-1]}
        self._main = [last.name for last in lasts]
        joined = dataclasses.replace(
            lasts[leader],
            hard_labels=any(last.hard_labels for last in lasts),
            teacher=any(last.teacher for last in lasts),
        )
        return (*plans[leader][:-1], joined)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """The terms of all parts, each under ``part.term``; in a phase that one part brings, those of that part."""
        terms: Terms = {}
        alone = self._alone.get(batch.phase)
        for place, part in enumerate(self.each()):
            if alone not in (None, place):
                continue
            kind = self.kinds[place]
            seen = batch if alone == place else dataclasses.replace(batch, phase=self._main[place])
            theirs = inner(teacher, kind.name) if self.reduces else only(teacher, teacher_signals(kind))
            own: Any = part(only(student, student_signals(kind)), theirs, seen)
            if not isinstance(own, dict):
                told = type(own).__name__
                raise KdzooError(f"forward of {kind.name} must give a dict such as {{'kd': loss}}, not a {told}")
            terms |= {f"{kind.name}.{name}": value for name, value in own.items()}
        return terms

    def each(self) -> Iterator[Strategy]:
        """The parts, in order."""
        for part in self.parts:
            assert isinstance(part, Strategy)
            yield part


def deployed(kinds: Sequence[type[Strategy]]) -> list[tuple[str, int, str]]:
    """(alias in the combination, place of the part, name in the part) of each module that stays with the student."""
    return [(f"{kind.name}_{name}", place, name) for place, kind in enumerate(kinds) for name in kind.deployed]


def only(outputs: Outputs, signals: Collection[str]) -> Outputs:
    """The named signals, as far as they are there."""
    return Outputs({name: value for name, value in outputs.values.items() if name in signals})


def inner(outputs: Outputs, name: str) -> Outputs:
    """What one part asked the teacher's signals to be reduced to."""
    prefix = f"{name}."
    values = {key.removeprefix(prefix): one for key, one in outputs.values.items() if key.startswith(prefix)}
    return Outputs(values, reduced=outputs.reduced)


def values_of(kind: type[Strategy], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one part, by its own names."""
    return {key: values[f"{kind.name}.{key}"] for key in kind.hyperparameters()}


def in_turn(kinds: Sequence[type[Strategy]]) -> list[str]:
    """What the parts search, by full name: the first parameter of each part, then the second of each, and so on."""
    searched = [[key for key, spec in kind.hyperparameters().items() if spec.search] for kind in kinds]
    longest = max((len(keys) for keys in searched), default=0)
    return [
        f"{kind.name}.{keys[turn]}"
        for turn in range(longest)
        for kind, keys in zip(kinds, searched, strict=True)
        if turn < len(keys)
    ]
