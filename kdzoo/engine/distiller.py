"""The distiller: student and strategy as one trainable module, and the terms of one batch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdzoo.declarations import Phase, Signal, student_signals
from kdzoo.engine.division import Division, run_divided
from kdzoo.errors import KdzooError
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Batch, Outputs
from kdzoo.strategy import Strategy, Terms

NOTHING = Outputs({})
HARD_LABELS = ("ce", "peer.ce")
"""The hard-label losses among the terms: of the student, and of a second one."""

_MOST_OF_A_NAME = 100
"""Characters: the names of terms stand in each epoch of a record."""


class Distiller(nn.Module):
    """Everything that is trained, and nothing else: the teacher's signals come from outside.

    Args:
        student: the student behind its taps.
        strategy: the strategy with its adapters and memories.
        label_smoothing: of the hard-label loss.
        division: how each batch is divided among several processes; None where it is not.
        peer: a second student, which learns at the same time, each from the other.
        balanced: whether the hard-label loss has the weight 1, beside terms that are scaled to it.
    """

    def __init__(
        self,
        student: TappedModel,
        strategy: Strategy,
        label_smoothing: float = 0.0,
        division: Division | None = None,
        peer: TappedModel | None = None,
        balanced: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.peer = peer
        self.strategy = strategy
        self.label_smoothing = label_smoothing
        self.division = division
        self.balanced = balanced
        self._signals = student_signals(strategy)
        self._made = frozenset(strategy.state_dict())

    def refuse_late(self) -> None:
        """See that the strategy has no parameters and buffers but those that it was built with.

        Raises:
            KdzooError: one was made later: no optimizer trains it, and no other process can take it up.
        """
        if late := sorted(frozenset(self.strategy.state_dict()) - self._made):
            raise KdzooError(
                f"{self.strategy.name} made {', '.join(late)} in training, too late for the optimizer and for "
                f"checkpoints; make it in build, from the shapes in setup"
            )

    def forward(self, batch: Batch, teacher: Outputs, hard_labels: bool) -> Terms:
        """The named, weighted terms of one batch; the hard-label loss is the one named ``ce``.

        Those of a second student have ``peer.`` before their names, and its place is the teacher's.

        Raises:
            KdzooError: the strategy breaks the contract: no term at all, one that is no scalar, or one named ``ce``.
        """
        student = run_divided(self.student, batch, self._signals, self.division)
        if self.peer is None:
            return self._terms(student, teacher, batch, hard_labels)
        other = run_divided(self.peer, batch, self._signals, None)
        own = self._terms(student, _detached(other), batch, hard_labels)
        theirs = self._terms(other, _detached(student), batch, hard_labels)
        return own | {f"peer.{name}": term for name, term in theirs.items()}

    def _terms(self, student: Outputs, teacher: Outputs, batch: Batch, hard_labels: bool) -> Terms:
        terms: Terms = {}
        if hard_labels and self.strategy.ce_weight != 0:
            logits = self.strategy.hard_label_logits(student).float()
            rows = len(batch.targets) // self.strategy.variants
            loss = F.cross_entropy(logits[:rows], batch.targets[:rows], label_smoothing=self.label_smoothing)
            terms["ce"] = loss if self.balanced else self.strategy.ce_weight * loss
        distilled: Any = self.strategy(student, teacher, batch)
        self._check(terms, distilled, batch.phase)
        terms.update(distilled)
        return terms

    def _check(self, own: Terms, distilled: Any, phase: str) -> None:
        name = self.strategy.name
        if not isinstance(distilled, dict):
            kind = type(distilled).__name__
            raise KdzooError(f"forward of {name} must give a dict such as {{'kd': loss}}, not a {kind}")
        if "ce" in distilled:
            raise KdzooError(f"the strategy {name} gives a term named 'ce', as the hard-label loss is called")
        if not own and not distilled:
            raise KdzooError(f"the strategy {name} gives no term in its phase {phase!r}, which has no hard-label loss")
        for term, value in distilled.items():
            if not (isinstance(term, str) and term.isprintable() and len(term) <= _MOST_OF_A_NAME):
                raise KdzooError(
                    f"{name} gives a term named {term!s:.{_MOST_OF_A_NAME}}: a name is a text of at most "
                    f"{_MOST_OF_A_NAME} printable characters"
                )
            if not isinstance(value, Tensor):
                raise KdzooError(f"the term {term!r} of {name} is a {type(value).__name__}: give a tensor")
            if value.ndim:
                raise KdzooError(
                    f"the term {term!r} of {name} has the shape {tuple(value.shape)}: reduce it to a scalar"
                )

    def no_weight_decay(self) -> set[str]:
        """The parameters that the student's timm model wants no weight decay on; timm's optimizers ask for it."""
        found: set[str] = set()
        for place, network in (("student", self.student), ("peer", self.peer)):
            listed: set[str] = getattr(network.model, "no_weight_decay", set)() if network is not None else set()
            found |= {f"{place}.model.{name}" for name in listed}
        return found

    def clipped_together(self, parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
        """Parameters in the groups whose gradients are clipped together: those of a second student by themselves."""
        if self.peer is None:
            return [list(parameters)]
        theirs = {id(parameter) for parameter in self.peer.parameters()}
        return [[one for one in parameters if (id(one) in theirs) is apart] for apart in (False, True)]

    def trained_by(self, phase: Phase) -> nn.Module:
        """The module whose parameters a phase trains."""
        return {"both": self, "student": self.student, "strategy": self.strategy}[phase.trains]


@torch.no_grad()
def with_variants(strategy: Strategy, batch: Batch) -> Batch:
    """The batch with the images that the strategy makes of each, and as many rows of everything else.

    Raises:
        KdzooError: it makes another number of them.
    """
    count = strategy.variants
    if count == 1:
        return batch
    inputs, wanted = strategy.augment(batch.inputs), count * len(batch.labels)
    if not isinstance(inputs, Tensor) or len(inputs) != wanted:
        made = len(inputs) if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise KdzooError(
            f"augment of {strategy.name} must give {count} rows for each image, {wanted} in all, and gives {made}"
        )
    rows: dict[str, Any] = {name: torch.cat([getattr(batch, name)] * count) for name in ("labels", "targets", "index")}
    return dataclasses.replace(batch, inputs=inputs, **rows)


def _detached(outputs: Outputs) -> Outputs:
    """The logits of a network that teaches while it learns: no gradient goes back through them."""
    return Outputs({"logits": outputs.logits.detach()})


class Deployment(nn.Module):
    """What is left when training is over: the student, and the modules that its strategy names ``deployed``."""

    def __init__(self, student: TappedModel, strategy: Strategy) -> None:
        super().__init__()
        self.student = student
        self.extra = nn.ModuleDict({name: strategy.get_submodule(name) for name in strategy.deployed})


def predict(deployment: Deployment, strategy: Strategy, inputs: Any) -> Tensor:
    """The logits by which a trained student is measured, B x classes.

    Args:
        deployment: the student and its modules, or their moving averages.
        strategy: says how they predict.
        inputs: as in a batch.
    """
    plain = type(strategy).predict is Strategy.predict
    outputs = deployment.student(inputs, {"logits"} if plain else student_signals(strategy))
    return with_modules(strategy, deployment.extra).predict(outputs)


def with_modules(strategy: Strategy, modules: nn.ModuleDict) -> Strategy:
    """The strategy with other modules in the place of its own; everything else is shared, and it stays as it was."""
    if all(getattr(strategy, name) is module for name, module in modules.items()):
        return strategy
    other = copy.copy(strategy)
    other._modules = strategy._modules | dict(modules.items())
    return other


def teach(teacher: Teacher | None, signals: Collection[Signal], batch: Batch) -> Outputs:
    """The teacher's signals on a batch; nothing is run where nothing is asked for."""
    return teacher(batch.inputs, signals) if teacher is not None and signals else NOTHING
