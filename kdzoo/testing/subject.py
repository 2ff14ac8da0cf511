"""The strategy under test: built, called and measured on made-up signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kdzoo.combination import Combination
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.distiller import NOTHING, teacher_signals
from kdzoo.errors import KdzooError, UsageError
from kdzoo.strategy import Classifier, Outputs, Phase, Setup, Strategy, Terms
from kdzoo.testing.made import Drawn, Pair, Tapped, draw_batch, make_pair, tap_student, tap_teacher

if TYPE_CHECKING:
    from kdzoo.testing.training import Trainings

LONGEST = 12
"""Epochs that a strategy's phases may need at least; beyond, it cannot be tried quickly."""


@dataclass(frozen=True)
class Call:
    """One call of a strategy: its terms (``phase/name`` where it has several phases), and what went in."""

    strategy: Strategy
    terms: Terms
    student: Tapped
    teacher: Tapped

    @property
    def values(self) -> dict[str, float]:
        """The terms as numbers."""
        return {name: float(term.detach()) for name, term in self.terms.items()}

    @property
    def total(self) -> Tensor:
        """The sum of the terms, float64."""
        return torch.stack([term.double() for term in self.terms.values()]).sum()

    def gradients(self) -> tuple[Tensor, ...]:
        """Of the total, for each source of the student; zeros where nothing arrives."""
        sources = self.student.sources
        if not self.total.requires_grad:
            return tuple(map(torch.zeros_like, sources))
        return torch.autograd.grad(self.total, sources, allow_unused=True, materialize_grads=True)


@dataclass
class Subject:
    """A strategy, its parameters, and where it comes from.

    Args:
        kind: the class.
        params: values of hyperparameters; the others have their defaults.
        distribution: what brought it.
        version: of the distribution.
    """

    kind: type[Strategy]
    params: dict[str, Any] = field(default_factory=dict)
    distribution: str = "file"
    version: str = ""

    @cached_property
    def epochs(self) -> int:
        """The fewest epochs, at least two, in which each of its phases has one."""
        strategy = self.build(make_pair().setup(self.kind))
        for epochs in range(2, LONGEST + 1):
            try:
                phases = strategy.phases(epochs)
            except UsageError:
                continue
            if sum(phase.epochs for phase in phases) == epochs and all(phase.epochs > 0 for phase in phases):
                return epochs
        raise KdzooError(f"its phases do not add up to the recipe's epochs in any training of 2 to {LONGEST} epochs")

    @cached_property
    def trainings(self) -> Trainings:
        """Its trainings on real networks, made when they are first asked for."""
        from kdzoo.testing.training import Trainings

        return Trainings(self)

    def with_params(self, params: Mapping[str, Any]) -> Subject:
        """The same strategy with other values over its own."""
        return replace(self, params=self.params | dict(params))

    def build(self, setup: Setup) -> Strategy:
        """A fresh strategy in train mode; its adapters and memories always start alike."""
        seed_everything(7)
        return self.kind(setup, **self.params).train()

    def phases(self, strategy: Strategy) -> tuple[Phase, ...]:
        """The phases of the shortest training."""
        return strategy.phases(self.epochs)

    def draw(self, pair: Pair, samples: int = 8, *, seed: int = 0, scale: float = 1.0) -> Drawn:
        """A batch with as many views as the strategy asks for."""
        return draw_batch(pair, samples, views=self.kind.views, seed=seed, scale=scale)

    def call(
        self,
        pair: Pair | None = None,
        drawn: Drawn | None = None,
        *,
        seed: int = 0,
        strategy: Strategy | None = None,
        precision: AbstractContextManager[Any] | None = None,
        watched: Callable[[Tapped, int], Tapped] = lambda tapped, at: tapped,
    ) -> Call:
        """Call the strategy once in each of its phases.

        Args:
            pair: the networks; by default two of the same shapes.
            drawn: the batch; by default eight samples.
            seed: of the random numbers that it draws meanwhile.
            strategy: the one to call; by default a fresh one.
            precision: around the networks' last layers and the call, for example autocast.
            watched: may put something around the signals of the student (0) and of the teacher (1).
        """
        pair = pair or make_pair()
        drawn = drawn or self.draw(pair)
        strategy = strategy or self.build(pair.setup(self.kind))
        terms: Terms = {}
        with precision or nullcontext():
            student = watched(tap_student(self.kind, drawn.student, _as(pair.layers[0], drawn)), 0)
            teacher = watched(tap_teacher(self.kind, drawn.teacher, _as(pair.layers[1], drawn)), 1)
            phases = self.phases(strategy)
            for phase in phases:
                seed_everything(seed)
                found = strategy(
                    student.outputs,
                    self._shown(strategy, teacher, phase),
                    replace(drawn.batch, phase=phase.name),
                )
                prefix = f"{phase.name}/" if len(phases) > 1 else ""
                terms |= {prefix + name: term for name, term in found.items()}
        return Call(strategy, terms, student, teacher)

    def _shown(self, strategy: Strategy, teacher: Tapped, phase: Phase) -> Outputs:
        """What the strategy sees of the teacher in a phase, as the engine hands it over."""
        if not (phase.teacher and teacher_signals(self.kind)):
            return NOTHING
        with torch.no_grad():
            return strategy.reduce(teacher.outputs)

    @cached_property
    def usual(self) -> Call:
        """A call on the default networks; to be looked at only."""
        return self.call()

    @property
    def gives_terms(self) -> bool:
        """Whether it has distillation terms at all; the baseline has none."""
        return bool(self.usual.terms)

    @cached_property
    def draws(self) -> bool:
        """Whether its terms depend on random numbers."""
        return self.call(seed=1).values != self.usual.values


def _as(layer: Classifier, drawn: Drawn) -> Classifier:
    """The layer in float64 where the features are; half precisions come about under autocast alone."""
    if drawn.student.embedding.dtype != torch.float64:
        return layer
    return Classifier(layer.weight.double(), None if layer.bias is None else layer.bias.double())


Measure = Callable[[int], Mapping[str, float]]
"""Seed -> terms."""


def difference(one: Measure, other: Measure, *, relative: float, draws: bool, repeats: int = 48) -> str:
    """How two ways to compute the same terms differ, in words; empty where they agree.

    Args:
        one: the first way.
        other: the second way.
        relative: share of a term that rounding may take.
        draws: whether the terms depend on random numbers. Then their means over many seeds are compared, and may
            differ by five standard errors.
        repeats: seeds, where they are needed.
    """
    first, second = one(0), other(0)
    told = _apart(first, second, relative)
    if not told or not draws:
        return told
    many, others = ([first, *map(one, range(1, repeats))], [second, *map(other, range(1, repeats))])
    for name in first:
        left, right = (torch.tensor([each[name] for each in side], dtype=torch.float64) for side in (many, others))
        error = float((left.var() / repeats + right.var() / repeats).sqrt())
        gap = abs(float(left.mean() - right.mean()))
        if gap > 5 * error + relative * abs(float(right.mean())):
            return f"{name} is {left.mean():.6g} and {right.mean():.6g} (means over {repeats} seeds)"
    return ""


def _apart(first: Mapping[str, float], second: Mapping[str, float], relative: float) -> str:
    if first.keys() != second.keys():
        return f"the terms are {sorted(first)} and {sorted(second)}"
    size = max((abs(value) for value in [*first.values(), *second.values()]), default=0.0)
    for name, value in first.items():
        # A comparison with NaN is false, so NaN is told.
        if not abs(value - second[name]) <= relative * max(abs(value), abs(second[name]), 1e-3 * size) + 1e-9:
            return f"{name} is {value:.6g} and {second[name]:.6g}"
    return ""


def keep(outputs: Outputs) -> Outputs:
    """A copy of signals whose tensors share nothing with them."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().clone()
        if isinstance(value, Classifier):
            return Classifier(copied(value.weight), None if value.bias is None else copied(value.bias))
        return tuple(map(copied, value))

    return Outputs({name: copied(value) for name, value in outputs.values.items()})


def parts_of(kind: type[Strategy]) -> tuple[type[Strategy], ...]:
    """The strategies that a combination consists of; any other strategy itself."""
    return kind.kinds if issubclass(kind, Combination) else (kind,)
