"""What a training needs of the teacher, and the tensors that serve it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from kdzoo.cell import StrategyRef, content_hash
from kdzoo.errors import KdzooError
from kdzoo.recipe import Recipe
from kdzoo.signals import teacher_signals
from kdzoo.strategy import Classifier, Outputs, Signal, Strategy

Reduce = Callable[[Outputs], Outputs]


class Place(NamedTuple):
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
    shapes = [[*map(list, side.stages), side.embedding, side.num_classes] for side in (setup.student, setup.teacher)]
    built = [ref.model_dump(mode="json"), shapes, [list(pair) for pair in setup.stage_pairs]]
    return f"{ref.name} {content_hash(built)}"


def tensors_of(outputs: Outputs, need: Need) -> Iterator[tuple[Place, str, Tensor]]:
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
                yield Place(name, None), text if isinstance(text, str) else text[0], part
            else:
                yield Place(name, position), f"{text}.{position}" if isinstance(text, str) else text[position], part
