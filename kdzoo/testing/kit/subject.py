"""The strategy under test: built, and called on made-up signals."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from kdzoo.declarations import Phase, rows_of_sample, teacher_signals
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.distiller import NOTHING
from kdzoo.engine.teacher_survey import surveys
from kdzoo.errors import KdzooError, PairError, UsageError
from kdzoo.outputs import Batch, Classifier, Outputs, Setup
from kdzoo.strategy import Strategy, Terms
from kdzoo.testing.kit.networks import DEEP_STAGES, EVEN_STAGES, STAGES, NetworkPair, Shape, make_pair
from kdzoo.testing.kit.synthetic import Call, Drawn, Tapped, draw_batch, draw_survey, tap_student, tap_teacher
from kdzoo.testing.kit.trainings import Trainings

SURE = 8.0
"""Scale of the features at which a made-up network gives about half of its answers a probability above 0.9."""


@dataclass(frozen=True)
class Moment:
    """When a strategy is called.

    Args:
        progress: of the training.
        times: calls on the same batch, of which the last one counts: a memory may have to be filled first.
        scale: of the features, and so of the logits: a loss may wait for a teacher that is sure.
    """

    progress: float
    times: int
    scale: float = 1.0

    def of(self, batch: Batch, phase: Phase) -> Batch:
        """The batch at this moment of a training of 100 epochs."""
        return replace(batch, phase=phase.name, progress=self.progress, epoch=int(100 * self.progress), epochs=100)

    @property
    def description(self) -> str:
        """In words."""
        seen = ", on a batch that it has seen before" if self.times > 1 else ""
        return f"at progress {self.progress:g}{seen}" + (", where the networks are sure" if self.scale > 1 else "")


MOMENTS = tuple(
    Moment(progress, times, scale) for scale in (1.0, SURE) for times in (1, 2) for progress in (0.5, 0.99, 0.0)
)
"""All that are tried, the usual ones first."""

MOST_TRIED = 40
"""Epochs that a strategy's phases may need at least; beyond, it cannot be tried quickly."""

_FAR = (100, 1_000, 10_000)
"""Trainings that are only asked for their phases: whether there would be room in them."""


class TooLongError(KdzooError):
    """Its phases are in order, and need too many epochs to be tried."""


def fewest_epochs(strategy: Strategy) -> int:
    """The fewest epochs, at least two, in which each phase has two, or one where it never has more.

    Raises:
        TooLongError: there is no such training of at most ``MOST_TRIED``.
        KdzooError: there is none at all.
    """
    plans = {epochs: plan for epochs in range(2, MOST_TRIED + 1) if (plan := _lengths(strategy, epochs))}
    if not plans:
        if any(_lengths(strategy, epochs) for epochs in _FAR):
            raise TooLongError(
                f"its phases need more than {MOST_TRIED} epochs, which is too long to be tried: shorten them for the "
                f"check, as in --set {strategy.name}.PARAMETER=2"
            )
        raise KdzooError(
            f"its phases do not add up to the recipe's epochs, each with at least one, in any training of 2 to "
            f"{_FAR[-1]} epochs that was tried"
        )
    longest = plans[max(plans)]
    wanted = [min(length, 2) for length in longest]
    enough = (n for n, plan in plans.items() if len(plan) == len(wanted) and all(map(int.__ge__, plan, wanted)))
    return next(enough)


def _lengths(strategy: Strategy, epochs: int) -> list[int]:
    """How long each phase of a training is; empty where there is no such training."""
    try:
        lengths = [phase.epochs for phase in strategy.phases(epochs)]
    except UsageError:
        return []
    return lengths if sum(lengths) == epochs and all(length > 0 for length in lengths) else []


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
    def _served(self) -> tuple[tuple[Shape, ...], bool]:
        """Stages of networks that it serves, equal on both sides, and whether their heads must pool the last map.

        Raises:
            KdzooError: it refuses whatever is tried.
        """
        refusal: PairError | None = None
        for pooled, stages in itertools.product((False, True), (STAGES, DEEP_STAGES, EVEN_STAGES)):
            try:
                self.build(make_pair(stages, stages, pooled=pooled).setup(self.kind))
            except PairError as error:
                refusal = error
            else:
                return stages, pooled
        tried = f"{len(STAGES)} and {len(DEEP_STAGES)} stages that shrink, and {len(EVEN_STAGES)} of one size"
        raise KdzooError(f"it refuses a student of the teacher's own shapes, of {tried}: {refusal}")

    @property
    def stages(self) -> tuple[Shape, ...]:
        """Stages of networks that it serves, equal on both sides.

        Raises:
            KdzooError: it refuses whatever is tried.
        """
        return self._served[0]

    def networks(self, student: Sequence[Shape], teacher: Sequence[Shape], **more: Any) -> NetworkPair:
        """Networks of these stages, with heads that it serves; ``more`` goes to :func:`make_pair`."""
        return make_pair(student, teacher, pooled=self._served[1], **more)

    @cached_property
    def rows_of_sample(self) -> int:
        """Rows of a batch for each of its samples: its views, which a parameter may decide, with variants of each."""
        return rows_of_sample(self.build(self.pair().setup(self.kind)))

    def pair(self, *, classes: int = 10, seed: int = 0) -> NetworkPair:
        """Two networks of equal shapes and different last layers."""
        return self.networks(self.stages, self.stages, classes=classes, seed=seed)

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
        return Trainings(self.kind, self.params, self.epochs)

    def with_params(self, params: Mapping[str, Any]) -> Subject:
        """The same strategy with other values over its own."""
        return replace(self, params=self.params | dict(params))

    def build(self, setup: Setup, *, seed: int = 7) -> Strategy:
        """A fresh strategy in train mode; its adapters and memories start alike under the same seed."""
        seed_everything(seed)
        strategy = self.kind(setup, **self.params).train()
        if surveys(strategy):
            with torch.no_grad():
                strategy.survey([(strategy.reduce(seen), batch) for seen, batch in draw_survey(self.kind, setup)])
        return strategy

    def phases(self, strategy: Strategy) -> tuple[Phase, ...]:
        """The phases of the shortest training."""
        return strategy.phases(self.epochs)

    def draw(self, pair: NetworkPair, samples: int = 8, *, seed: int = 0, scale: float | None = None) -> Drawn:
        """A batch with as many views as the strategy asks for; by default as sure as where it has most to say."""
        scale = self.moment.scale if scale is None else scale
        return draw_batch(pair, samples, views=self.rows_of_sample, seed=seed, scale=scale)

    def call(
        self,
        pair: NetworkPair | None = None,
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
                batch = moment.of(drawn.batch, phase)
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
