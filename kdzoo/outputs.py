"""What a strategy is given: the setup it is built from; at each step signals, the batch, and the backward pass."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from kdzoo.declarations import Signature, StageShape
from kdzoo.errors import UsageError


class Classifier(NamedTuple):
    """A last linear layer: ``weight`` is classes x embedding, ``bias`` has one value per class or is None."""

    weight: Tensor
    bias: Tensor | None


class PreActivation(NamedTuple):
    """What stands before the activation that gives a stage's map.

    ``weight`` and ``bias`` are those of the batch normalisation right before it, one value per channel; both None where
    there is none, or several whose sum goes in.
    """

    weight: Tensor | None
    bias: Tensor | None


@dataclass(frozen=True)
class Setup:
    """What a strategy is built from.

    Args:
        student: shapes of the student.
        teacher: shapes of the teacher.
        stage_pairs: (student stage, teacher stage) indices that face each other, from the input to the deepest.
        num_classes: classes of the dataset.
        num_samples: samples that train; ``Batch.index`` runs from 0 to num_samples - 1 (for memories).
        classifier: the teacher's last linear layer, a detached copy, if the strategy's teacher signals name it.
        pre_activations: of each of the teacher's stages, what stands before the activation that gives its map, None
            where none gives it; detached copies, if the strategy's teacher signals name ``pre_stages``.
    """

    student: Signature
    teacher: Signature
    stage_pairs: tuple[tuple[int, int], ...]
    num_classes: int
    num_samples: int
    classifier: Classifier | None = None
    pre_activations: tuple[PreActivation | None, ...] | None = None

    def paired_shapes(self) -> list[tuple[StageShape, StageShape]]:
        """The shapes of the paired stages: [(student's, teacher's), ...], from the input to the deepest."""
        return [(self.student.stages[s], self.teacher.stages[t]) for s, t in self.stage_pairs]


@dataclass(frozen=True)
class Outputs:
    """The signals of one network on one batch. Reading one that the strategy did not ask for is an error.

    Attributes:
        logits: B x classes.
        stages: one map per stage, B x C x H x W, from the input to the deepest.
        embedding: B x D, pooled features that enter the classifier.
        classifier: the last linear layer.
        pre_stages: one map per stage, of its shape: what enters the activation whose output is the stage's map.
        heads: B x classes for each head whose mean the logits are; one in most networks.
        reduced: whether :meth:`Strategy.reduce` gave these.
    """

    values: Mapping[str, Any]
    reduced: bool = False

    def _get(self, signal: str) -> Any:
        if signal not in self.values:
            raise UsageError(f"the signal {signal!r} was not asked for: add it to the strategy's signals")
        return self.values[signal]

    @property
    def logits(self) -> Tensor:
        """B x classes."""
        logits: Tensor = self._get("logits")
        return logits

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """One B x C x H x W map per stage, from the input to the deepest."""
        stages: tuple[Tensor, ...] = self._get("stages")
        return stages

    @property
    def embedding(self) -> Tensor:
        """B x D."""
        embedding: Tensor = self._get("embedding")
        return embedding

    @property
    def classifier(self) -> Classifier:
        """The last linear layer (for the student: the live, trained one)."""
        classifier: Classifier = self._get("classifier")
        return classifier

    @property
    def pre_stages(self) -> tuple[Tensor, ...]:
        """One B x C x H x W map per stage, before its last activation; the stage's own map where it is behind none."""
        stages: tuple[Tensor, ...] = self._get("pre_stages")
        return stages

    @property
    def heads(self) -> tuple[Tensor, ...]:
        """B x classes for each head; the logits are their mean."""
        heads: tuple[Tensor, ...] = self._get("heads")
        return heads


@dataclass(frozen=True)
class Batch:
    """What a strategy may know of a batch beside the signals.

    Attributes:
        inputs: what the networks were given; a tensor, or a dict of tensors for data that are not images.
        labels: B, int64, the samples' own labels.
        targets: what the hard-label loss uses: the labels, or B x classes probabilities under mixup.
        index: B, int64, each sample's place among the training samples.
        view: the number of the augmented version that this epoch shows.
        phase: name of the running phase.
        progress: share of the whole training that is done, from 0 to 1.
        epoch: number of the running epoch, from 0, phases together.
        epochs: how many epochs the whole training has.
    """

    inputs: Any
    labels: Tensor
    targets: Tensor
    index: Tensor
    view: int = 0
    phase: str = "main"
    progress: float = 0.0
    epoch: int = 0
    epochs: int = 1


def only(outputs: Outputs, signals: Collection[str]) -> Outputs:
    """The named signals, as far as they are there."""
    return Outputs({name: value for name, value in outputs.values.items() if name in signals})


def reduced_once(reduce: Callable[[Any, Outputs], Outputs]) -> Callable[[Any, Outputs], Outputs]:
    """The method, which leaves alone what is reduced already, and where there is nothing to reduce."""

    @functools.wraps(reduce)
    def once(self: Any, teacher: Outputs) -> Outputs:
        if teacher.reduced or not teacher.values:
            return teacher
        return dataclasses.replace(reduce(self, teacher), reduced=True)

    return once


class Backward(Protocol):
    """Adds the gradients of a loss to those of the parameters; what :meth:`Strategy.gradients` is given.

    Attributes:
        parameters: those that the running phase trains, in a fixed order; each call adds to their ``grad``.
    """

    parameters: tuple[nn.Parameter, ...]

    def __call__(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        """Run the backward pass of a scalar; all but the last of several must retain the graph they share."""
