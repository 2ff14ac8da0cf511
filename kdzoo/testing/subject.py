"""The strategy under test: built, called and measured on made-up signals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from kdzoo.combination import Combination
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.distiller import NOTHING
from kdzoo.errors import KdzooError, PairError
from kdzoo.signals import teacher_signals
from kdzoo.strategy import Batch, Classifier, Outputs, Phase, Setup, Strategy, Terms
from kdzoo.testing.calls import Call
from kdzoo.testing.made import (
    DEEP_STAGES,
    EVEN_STAGES,
    STAGES,
    Drawn,
    Pair,
    Shape,
    Tapped,
    draw_batch,
    make_pair,
    tap_student,
    tap_teacher,
)
from kdzoo.testing.moments import MOMENTS, Moment
from kdzoo.testing.plans import fewest_epochs

if TYPE_CHECKING:
    from kdzoo.testing.training import Trainings


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
    def stages(self) -> tuple[Shape, ...]:
        """Stages of networks that it serves, equal on both sides.

        Raises:
            KdzooError: it refuses whatever is tried.
        """
        told: PairError | None = None
        for stages in (STAGES, DEEP_STAGES, EVEN_STAGES):
            try:
                self.build(make_pair(stages, stages).setup(self.kind))
            except PairError as error:
                told = error
            else:
                return stages
        tried = f"{len(STAGES)} and {len(DEEP_STAGES)} stages that shrink, and {len(EVEN_STAGES)} of one size"
        raise KdzooError(f"it refuses a student of the teacher's own shapes, of {tried}: {told}")

    def pair(self, *, classes: int = 10, seed: int = 0) -> Pair:
        """Two networks of equal shapes and different last layers."""
        return make_pair(self.stages, self.stages, classes, seed=seed)

    @cached_property
    def epochs(self) -> int:
        """The fewest epochs, at least two, in which each of its phases has two, or one where it never has more.

        Raises:
            KdzooError: there is no such training, or none that is short enough to be tried (a ``TooLongError``).
        """
        return fewest_epochs(self.build(self.pair().setup(self.kind)))

    @cached_property
    def trainings(self) -> Trainings:
        """Its trainings on real networks, made when they are first asked for."""
        from kdzoo.testing.training import Trainings

        return Trainings(self)

    def with_params(self, params: Mapping[str, Any]) -> Subject:
        """The same strategy with other values over its own."""
        return replace(self, params=self.params | dict(params))

    def build(self, setup: Setup, *, seed: int = 7) -> Strategy:
        """A fresh strategy in train mode; its adapters and memories start alike under the same seed."""
        seed_everything(seed)
        return self.kind(setup, **self.params).train()

    def phases(self, strategy: Strategy) -> tuple[Phase, ...]:
        """The phases of the shortest training."""
        return strategy.phases(self.epochs)

    def draw(self, pair: Pair, samples: int = 8, *, seed: int = 0, scale: float | None = None) -> Drawn:
        """A batch with as many views as the strategy asks for; by default as sure as where it has most to say."""
        scale = self.moment.scale if scale is None else scale
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
        moment: Moment | None = None,
    ) -> Call:
        """Call the strategy in each of its phases.

        Args:
            pair: the networks; by default two of the same shapes.
            drawn: the batch; by default eight samples.
            seed: of the random numbers that it draws meanwhile.
            strategy: the one to call; by default a fresh one.
            precision: around the networks' last layers and the call, for example autocast.
            watched: may put something around the signals of the student (0) and of the teacher (1).
            moment: when; by default where it has most to say.
        """
        pair, moment = pair or self.pair(), moment or self.moment
        drawn = drawn or self.draw(pair, scale=moment.scale)
        strategy = strategy or self.build(pair.setup(self.kind))
        terms: Terms = {}
        each: list[tuple[Phase, Terms]] = []
        with precision or nullcontext():
            student = watched(tap_student(self.kind, drawn.student, _as(pair.layers[0], drawn)), 0)
            teacher = watched(tap_teacher(self.kind, drawn.teacher, _as(pair.layers[1], drawn)), 1)
            phases = self.phases(strategy)
            for phase in phases:
                batch = replace(drawn.batch, phase=phase.name, progress=moment.progress)
                for _ in range(moment.times):
                    seed_everything(seed)
                    found = self._terms(strategy, student.outputs, self._shown(strategy, teacher, phase), batch)
                prefix = f"{phase.name}/" if len(phases) > 1 else ""
                terms |= {prefix + name: term for name, term in found.items()}
                each.append((phase, found))
        return Call(strategy, terms, student, teacher, drawn.batch, tuple(each))

    @staticmethod
    def _terms(strategy: Strategy, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        try:
            return strategy(student, teacher, batch)
        except PairError as error:
            raise KdzooError(f"it refuses networks that it was built for: {error}") from error

    def _shown(self, strategy: Strategy, teacher: Tapped, phase: Phase) -> Outputs:
        """What the strategy sees of the teacher in a phase, as the engine hands it over."""
        if not (phase.teacher and teacher_signals(self.kind)):
            return NOTHING
        with torch.no_grad():
            return strategy.reduce(teacher.outputs)

    @cached_property
    def calls(self) -> dict[Moment, Call]:
        """A call on the default networks at each moment; to be looked at only."""
        return {moment: self.call(moment=moment) for moment in MOMENTS}

    @cached_property
    def moment(self) -> Moment:
        """The first at which most of its terms are there and not 0.

        Some come late, or need a memory that is filled, or a teacher that is sure.
        """
        return max(MOMENTS, key=lambda moment: sum(value != 0 for value in self.calls[moment].values.values()))

    @property
    def usual(self) -> Call:
        """The call at that moment."""
        return self.calls[self.moment]

    @property
    def gives_terms(self) -> bool:
        """Whether it has distillation terms at all; the baseline has none."""
        return bool(self.usual.terms)

    @cached_property
    def draws(self) -> bool:
        """Whether its terms or their gradients depend on random numbers."""
        one, other = self.usual, self.call(seed=1)
        return one.values != other.values or not all(map(torch.equal, one.gradients(), other.gradients()))


def _as(layer: Classifier, drawn: Drawn) -> Classifier:
    """The layer in float64 where the features are; half precisions come about under autocast alone."""
    if drawn.student.embedding.dtype != torch.float64:
        return layer
    return Classifier(layer.weight.double(), None if layer.bias is None else layer.bias.double())


def parts_of(kind: type[Strategy]) -> tuple[type[Strategy], ...]:
    """The strategies that a combination consists of; any other strategy itself."""
    return kind.kinds if issubclass(kind, Combination) else (kind,)
