"""A pass over the training samples before a training, for strategies that need statistics of the teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from kdzoo.data.load import LoadedData
from kdzoo.declarations import Phase
from kdzoo.engine.bank.needs import pass_batch
from kdzoo.engine.bank.signal_sources import Banked, GiveSignals, OnTheFly, SignalSource
from kdzoo.errors import KdzooError
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Batch, Outputs
from kdzoo.recipe import Augment
from kdzoo.strategy import Strategy

PHASE = Phase("survey", 1)
"""What batches say meanwhile."""


def surveys(strategy: type[Strategy] | Strategy) -> bool:
    """Whether a strategy asks for the pass."""
    kind = strategy if isinstance(strategy, type) else type(strategy)
    return kind.survey is not Strategy.survey


@torch.no_grad()
def survey_teacher(
    strategy: Strategy,
    teacher: Teacher | None,
    data: LoadedData,
    device: torch.device,
    source: SignalSource,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:
    """Let a strategy that asks for the pass find what it looks for; arguments as of a :class:`TeacherSurvey`.

    Raises:
        KdzooError: there is no teacher.
    """
    if teacher is None:
        raise KdzooError(f"{strategy.name} asks for a survey of the teacher, and there is none")
    strategy.survey(TeacherSurvey(data, device, OnTheFly(teacher, strategy), source, autocast))


class TeacherSurvey:
    """The training samples, each once, in their order and not augmented, with what the strategy gets of the teacher.

    It can be gone through several times and is always the same: nothing is drawn, and the size of its batches depends
    on the images and the kind of device alone.

    Args:
        data: the dataset.
        device: where the batches shall be.
        loop: the teacher.
        source: what the training reads; a bank of views that are not augmented has what is asked for here.
        autocast: gives the context in which the teacher runs, as in the training.
    """

    def __init__(
        self,
        data: LoadedData,
        device: torch.device,
        loop: OnTheFly,
        source: SignalSource,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.data, self.device, self.autocast = data, device, autocast
        self.loop, self.source = loop, source

    def __iter__(self) -> Iterator[tuple[Outputs, Batch]]:
        signals_of = self._signals()
        for batch in self.data.eval_batches("fit", pass_batch(self.data, self.device), self.device):
            seen = Batch(batch.inputs, batch.labels, batch.targets, batch.index, phase=PHASE.name)
            with torch.no_grad(), self.autocast():
                outputs = signals_of(seen)
            yield outputs, seen

    def _signals(self) -> GiveSignals:
        if isinstance(self.source, Banked) and self.source.group.owner.augment == Augment():
            return self.source.open(PHASE, 0)
        return self.loop.open(PHASE, 0)
