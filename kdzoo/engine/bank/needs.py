"""What trainings need of the teacher, and the teacher run for it: in large batches, as it would run in the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kdzoo.cell import content_hash
from kdzoo.data.load import LoadedData
from kdzoo.declarations import Signal, teacher_signals
from kdzoo.engine.evaluate import batch_for
from kdzoo.errors import KdzooError
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Classifier, Outputs, only
from kdzoo.recipe import Recipe
from kdzoo.refs import StrategyRef
from kdzoo.strategy import Strategy

Reduce = Callable[[Outputs], Outputs]
_BATCH_PIXELS = 2**17
"""Pixels of a batch on a CPU: larger ones leave its caches (ResNet-50 at 32x32: 102 images/s in batches of 128, 66 in
batches of 512, one core)."""
_FEWEST = 32
"""Fewer samples are filled up to as many: for small batches a CPU has other kernels, which round otherwise."""


class SignalPlace(NamedTuple):
    """Where a tensor stands in reduced outputs: a value's name, and the position in it if it is a tuple."""

    name: str
    position: int | None


@dataclass(frozen=True)
class Need:
    """What one training asks of the teacher.

    Args:
        strategy: its name.
        signals: what the teacher must give; empty where it is never run.
        reduce: what becomes of that, None for nothing.
        texts: names of what ``reduce`` gives, by value; see :meth:`kdzoo.Strategy.reduction`.
        mark: stands in the texts of what ``reduce`` gives and ``texts`` leaves out.
        views: the numbers of the views of each epoch that needs the teacher, one after the other.
        count: how many trainings ask for this.
    """

    strategy: str
    signals: frozenset[Signal]
    reduce: Reduce | None
    texts: Mapping[str, str | tuple[str, ...]]
    mark: str
    views: tuple[int, ...]
    count: int = 1

    def reduced(self, outputs: Outputs) -> Outputs:
        """The teacher's signals as the strategy gets them."""
        return outputs if self.reduce is None else self.reduce(outputs)

    def text(self, name: str) -> str | tuple[str, ...]:
        """What a value is called in the bank, whatever the strategy calls it."""
        return self.texts.get(name) or (f"{name} by {self.mark}" if self.mark else name)

    def of_logits(self) -> Need:
        """The need of one of several teachers, whose logits are as it gives them: what is reduced is their mean."""
        return replace(self, signals=frozenset({"logits"}), reduce=None, texts={}, mark="")

    def times(self, count: int) -> Need:
        """The same need of so many trainings."""
        return replace(self, count=count)


def need_of(strategy: Strategy, ref: StrategyRef, recipe: Recipe) -> Need:
    """What a strategy needs over a whole training.

    Args:
        strategy: as it was built for the pair.
        ref: its name, distribution and parameters.
        recipe: says how many epochs there are, and which views they show.
    """
    views: list[int] = []
    epoch = 0
    for phase in strategy.phases(recipe.epochs):
        for _ in range(phase.epochs):
            if phase.teacher:
                views += view_numbers(strategy.views, recipe.view(epoch))
            epoch += 1
    reduces = type(strategy).reduce is not Strategy.reduce
    return Need(
        strategy=ref.name,
        signals=teacher_signals(strategy),
        reduce=strategy.reduce if reduces else None,
        texts=dict(strategy.reduction()),
        mark=_fingerprint(strategy, ref) if reduces else "",
        views=tuple(views),
    )


def view_numbers(versions: int, view: int) -> list[int]:
    """The numbers of the versions that one batch holds of each sample, as :mod:`kdzoo.data.load` counts them."""
    return [versions * view + version for version in range(versions)]


def _fingerprint(strategy: Strategy, ref: StrategyRef) -> str:
    setup = strategy.setup
    shapes = [
        [*map(list, side.stages), side.embedding, side.num_classes, side.head_pools]
        for side in (setup.student, setup.teacher)
    ]
    built = [ref.model_dump(mode="json"), shapes, [list(pair) for pair in setup.stage_pairs]]
    return f"{ref.name} {content_hash(built)}"


def tensors_of(outputs: Outputs, need: Need) -> Iterator[tuple[SignalPlace, str, Tensor]]:
    """The tensors in reduced outputs, each with its place and its text; a classifier is none of them.

    Raises:
        KdzooError: there is something else than tensors.
    """
    for name, value in outputs.values.items():
        if isinstance(value, Classifier):
            continue
        parts = list(value) if isinstance(value, (tuple, list)) else [value]
        text = need.text(name)
        for position, part in enumerate(parts):
            if not isinstance(part, Tensor) or not part.ndim:
                kind = type(part).__name__
                raise KdzooError(f"{need.strategy}.reduce gives {name!r} as {kind}: give tensors of one row per sample")
            if isinstance(value, Tensor):
                yield SignalPlace(name, None), text if isinstance(text, str) else text[0], part
            else:
                yield (
                    SignalPlace(name, position),
                    f"{text}.{position}" if isinstance(text, str) else text[position],
                    part,
                )


def pass_batch(data: LoadedData, device: torch.device) -> int:
    """How many samples the teacher sees at a time: a power of two."""
    height, width = data.ref.img_size
    most = batch_for(data.ref)
    if device.type == "cpu":
        most = min(most, max(_FEWEST, _BATCH_PIXELS // (height * width)))
    return int(2 ** (most.bit_length() - 1))


@dataclass(frozen=True)
class TeacherRunner:
    """A teacher, and the context in which it runs.

    Args:
        teacher: frozen, on its device.
        autocast: gives the context.
    """

    teacher: Teacher
    autocast: Callable[[], AbstractContextManager[object]]

    @property
    def device(self) -> torch.device:
        """Where the teacher runs."""
        return next(self.teacher.parameters()).device

    def run(self, images: Tensor, signals: frozenset[Signal]) -> Outputs:
        """The teacher's signals."""
        with self.autocast():
            outputs: Outputs = self.teacher(images, signals)
        return outputs

    @torch.inference_mode()
    def make(self, images: Tensor, makers: dict[str, tuple[Need, SignalPlace]], least: int) -> dict[str, Tensor]:
        """What is kept of some images.

        Args:
            images: B x C x H x W.
            makers: key of an entry -> the need whose reduction gives it, and where that puts it.
            least: samples of the smallest batch that the teacher is given, at most 32.

        Returns:
            B rows for each key, reduced and not yet rounded.
        """
        count = len(images)
        if short := max(0, min(least, _FEWEST) - count):
            images = torch.cat([images, images[-1:].expand(short, *images.shape[1:])])
        signals = frozenset[Signal]().union(*(need.signals for need, _ in makers.values()))
        raw = self.run(images, signals)
        made: dict[int, Outputs] = {}
        found = {}
        for key, (need, place) in makers.items():
            if id(need) not in made:
                with self.autocast():
                    made[id(need)] = need.reduced(only(raw, need.signals))
            value = made[id(need)].values[place.name]
            found[key] = (value if place.position is None else value[place.position])[:count]
        return found
