"""What strategies and networks say of themselves in plain values: names, signals, parameters, shapes, sizes.

No torch here: what is kept of a strategy between two commands (:mod:`kdzoo.known`) can be read without it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from kdzoo.parameters import Param

if TYPE_CHECKING:
    from kdzoo.strategy import Strategy

Signal: TypeAlias = Literal["logits", "stages", "embedding", "classifier", "pre_stages", "heads"]
SIGNALS: tuple[Signal, ...] = ("logits", "stages", "embedding", "classifier", "pre_stages", "heads")


@dataclass(frozen=True)
class Paper:
    """Where a strategy comes from.

    ``id`` is an arXiv number or a DOI; of a paper that has neither, its address (``https://openreview.net/...``).
    ``code`` is the authors' code if there is any.
    """

    title: str
    authors: str
    year: int
    venue: str
    id: str
    code: str | None = None

    @property
    def address(self) -> str:
        """Where it can be read."""
        if self.id.startswith("https://"):
            return self.id
        return f"https://arxiv.org/abs/{self.id}" if self.id[:4].isdigit() else f"https://doi.org/{self.id}"


class StageShape(NamedTuple):
    """The shape of one stage's map, without the batch: C x H x W."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Signature:
    """What a strategy may know of a network: shapes, and what its head does with the last map.

    Args:
        stages: one shape per stage, from the input to the deepest.
        embedding: width of the pooled features that enter the classifier.
        num_classes: width of the logits.
        head_pools: whether the head is average pooling and one linear layer: the embedding is the mean of the last
            stage's map over its positions, but for dropout, so that the classifier may be applied to every position.
        heads: names of the last layers whose mean the logits are, in their order; one in most networks.
    """

    stages: tuple[StageShape, ...]
    embedding: int
    num_classes: int
    head_pools: bool = False
    heads: tuple[str, ...] = ("head",)


@dataclass(frozen=True)
class Profile:
    """What a network costs.

    Args:
        parameters: trainable and frozen.
        macs: multiply-accumulates of convolutions, matrix products and attention for one image.
    """

    parameters: int
    macs: int


def shared_signature(members: Sequence[Signature]) -> Signature:
    """The shapes of what several teachers give together: logits, and no stages and no embedding."""
    return Signature((), 0, members[0].num_classes)


def pair_stages(student: Signature, teacher: Signature) -> tuple[tuple[int, int], ...]:
    """Pair stages by position from the deepest; the longer network's first stages stay alone.

    Returns:
        (student stage, teacher stage) indices, from the input to the deepest.
    """
    surplus = len(student.stages) - len(teacher.stages)
    students = range(max(surplus, 0), len(student.stages))
    teachers = range(max(-surplus, 0), len(teacher.stages))
    return tuple(zip(students, teachers, strict=True))


def alone(name: str, modifies: Collection[Signal]) -> str:
    """What is said of a modifier that is asked for without a strategy beside it."""
    return (
        f"{name} changes the {' and '.join(modifies)} that other strategies see, and has no loss of its own: "
        f"combine it with one, as in soft+{name}"
    )


def student_signals(strategy: type[Strategy] | Strategy) -> frozenset[Signal]:
    """What the student must give: what the strategy asks for, and the logits that it is measured by."""
    return frozenset({"logits", *strategy.signals})


def rows_of_sample(strategy: type[Strategy] | Strategy) -> int:
    """Rows of a batch for each of its samples: its views, with all variants of each."""
    return strategy.views * strategy.variants


def teacher_signals(strategy: type[Strategy] | Strategy) -> frozenset[Signal]:
    """What the teacher must give; empty leaves the teacher out of the training."""
    own = strategy.teacher_signals
    return frozenset(strategy.signals if own is None else own)


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own optimizer and schedule; phases share the recipe's epochs.

    Args:
        name: what ``Batch.phase`` says meanwhile.
        epochs: its length.
        hard_labels: whether the hard-label loss is added (with the strategy's ``ce_weight``).
        trains: whether the student, the strategy's own modules, or both are trained.
        teacher: whether the teacher's signals are needed; where they are not, the teacher is not run.
    """

    name: str
    epochs: int
    hard_labels: bool = True
    trains: Literal["both", "student", "strategy"] = "both"
    teacher: bool = True

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.isprintable() and len(self.name) <= 100):
            raise ValueError("the name of a phase is a text of at most 100 printable characters")


def _overrides(kind: type[Strategy], method: str) -> bool:
    """Whether a class, or one that it derives from, has a method of its own in the place of the contract's."""
    return next(base for base in kind.__mro__ if method in vars(base)).__module__ != "kdzoo.strategy"


@dataclass(frozen=True)
class Declared:
    """What a strategy's class declares.

    Args:
        name: see :class:`kdzoo.Strategy`, as of all up to ``modifies``.
        family: see there.
        revision: see there.
        paper: see there.
        signals: see there.
        teacher_signals: see there.
        modifies: see there.
        params: its hyperparameters by name.
        doc: its docstring.
        module: the module that defines it.
        file: the file that defines it; empty where it is in none.
        own_check: whether it checks the values of its hyperparameters in a way of its own.
        own_optimizer: whether it makes the optimizer of its phases.
        deployed: names of the modules that it leaves in the student.
        hops: whether it may train networks between teacher and student.
        peer: whether it may train a second student, which then teaches in the teacher's place.
    """

    name: str
    family: str
    revision: str
    paper: Paper | None
    signals: tuple[Signal, ...]
    teacher_signals: tuple[Signal, ...] | None
    modifies: tuple[Signal, ...]
    params: dict[str, Param]
    doc: str
    module: str
    file: str
    own_check: bool
    own_optimizer: bool
    deployed: tuple[str, ...]
    hops: bool
    peer: bool

    @classmethod
    def of(cls, kind: type[Strategy]) -> Declared:
        """What a class declares."""
        try:
            file = inspect.getsourcefile(kind) or ""
        except TypeError:  # made without a file
            file = ""
        return cls(
            name=kind.name,
            family=kind.family,
            revision=kind.revision,
            paper=kind.paper,
            signals=kind.signals,
            teacher_signals=kind.teacher_signals,
            modifies=kind.modifies,
            params=kind.hyperparameters(),
            doc=inspect.getdoc(kind) or "",
            module=kind.__module__,
            file=file,
            own_check=_overrides(kind, "resolve"),
            own_optimizer=_overrides(kind, "optimizer"),
            deployed=tuple(kind.deployed),
            hops=_overrides(kind, "hops"),
            peer=_overrides(kind, "peer"),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which :meth:`from_json` makes it again."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Declared:
        """What :meth:`to_json` gave, after a way through JSON."""
        params = {
            name: Param(
                **spec | {"choices": tuple(spec["choices"]), "search": spec["search"] and tuple(spec["search"])}
            )
            for name, spec in value["params"].items()
        }
        paper = Paper(**value["paper"]) if value["paper"] else None
        teacher = value["teacher_signals"]
        return cls(
            **value
            | {
                "params": params,
                "paper": paper,
                "signals": tuple(value["signals"]),
                "teacher_signals": None if teacher is None else tuple(teacher),
                "modifies": tuple(value["modifies"]),
                "deployed": tuple(value["deployed"]),
            }
        )
