"""How a strategy is built, for the plan and for the run alike."""

from __future__ import annotations

from collections.abc import Mapping

from kdzoo.cell import DataRef, Scalar, StrategyRef
from kdzoo.declarations import Signature, pair_stages
from kdzoo.engine.devices import seed_everything
from kdzoo.errors import PairError, UsageError
from kdzoo.models.teacher import Teacher
from kdzoo.outputs import Classifier
from kdzoo.signals import teacher_signals
from kdzoo.space import Range
from kdzoo.strategy import Setup, Strategy


def make_setup(student: Signature, teacher: Signature, data: DataRef, classifier: Classifier | None) -> Setup:
    """The setup of a strategy on a pair and a dataset; see :class:`kdzoo.Setup`."""
    return Setup(
        student=student,
        teacher=teacher,
        stage_pairs=pair_stages(student, teacher),
        num_classes=data.num_classes,
        num_samples=data.fit,
        classifier=classifier,
    )


def build_strategy(
    kind: type[Strategy],
    params: Mapping[str, Scalar],
    student: Signature,
    teacher: Teacher | None,
    data: DataRef,
    *,
    seed: int | None = None,
) -> Strategy:
    """A strategy with its parameters, on the shapes of its networks.

    Args:
        kind: its class.
        params: its parameters.
        student: shapes of the student.
        teacher: the network that teaches; None where there is none, and the student's shapes take its place.
        data: the dataset.
        seed: of all generators, set immediately before the strategy is made; None leaves them alone.

    Raises:
        PairError: the strategy cannot serve the pair, or asks for the classifier of a teacher that has none.
    """
    classifier = teacher.classifier() if teacher and "classifier" in teacher_signals(kind) else None
    setup = make_setup(student, teacher.signature() if teacher else student, data, classifier)
    if seed is not None:
        seed_everything(seed)
    return kind(setup, **params)


def check_ranges(
    strategy: StrategyRef, kind: type[Strategy], space: Mapping[str, Range], setup: Setup, epochs: int, where: str
) -> None:
    """Build the strategy with both ends of each range that is not its own declaration's, the other values as they are.

    Args:
        strategy: with its values before tuning.
        kind: its class.
        space: full name -> what tuning tries; keys of the recipe are left alone.
        setup: of the pair.
        epochs: of a trial.
        where: the pair, for the message.

    Raises:
        UsageError: an end cannot be tried.
    """
    declared = kind.hyperparameters()
    for full, tried in space.items():
        owner, _, name = full.rpartition(".")
        if owner != strategy.name or name not in declared or declared[name].search == (tried.low, tried.high):
            continue
        for end in (tried.low, tried.high):
            value = declared[name].type(end)
            try:
                kind(setup, **(strategy.params | {name: value})).phases(epochs)
            except (PairError, UsageError) as error:
                raise UsageError(f"search {full}={tried}: {value} cannot be tried on {where}: {error}") from None
