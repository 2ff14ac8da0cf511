"""Trainings of the strategy on real, tiny networks, through the engine: whole, again, and killed and resumed."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdzoo.bench.build import build_strategy
from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.declarations import Phase, Signature
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.engine.course import Unwatched
from kdzoo.engine.devices import make_accelerator, seed_everything
from kdzoo.engine.distiller import Distiller
from kdzoo.engine.train import Training
from kdzoo.errors import NonFiniteLossError, PairError
from kdzoo.models.teacher import Teacher
from kdzoo.models.zoo import create_model
from kdzoo.outputs import Outputs
from kdzoo.recipe import Augment, Recipe
from kdzoo.refs import ModelRef, StrategyRef
from kdzoo.strategy import Strategy, Terms
from kdzoo.testing.kit.synthetic import open_quadrants

CNN, OTHER_CNN, VIT = "test_resnet", "test_efficientnet", "test_vit:depth=4:patch_size=4"
FINE_CNN = "test_resnet:output_stride=8"
"""Its last map has 2 x 2 positions, where that of the other CNNs has one."""

DISTILLED = "deit_tiny_distilled_patch16_224:depth=2:embed_dim=64:num_heads=2:patch_size=4"

PAIRS = (
    *((CNN, OTHER_CNN), (CNN, CNN), (VIT, VIT), (CNN, VIT), (VIT, CNN)),
    *((FINE_CNN, FINE_CNN), (DISTILLED, CNN)),
)
"""Student and teacher of the trainings, the most telling first: of the same kind, and of other widths; at the end, for
strategies that need them, a last map of several positions, and a student with two heads."""

RATES = (0.01, 0.001)
"""Learning rates of the trainings. The lower one, with clipped gradients, is for a strategy whose terms are sound, but
whose student diverges at the first: that says something of the rate, which is the kit's own."""

BATCH = 16

CPU = torch.device("cpu")


class Killed(BaseException):
    """The process ends here; like Ctrl-C, no ``except Exception`` of a strategy stops it."""


class StepObserver(Unwatched):
    """Calls each of ``observers`` after a step, with the epoch and the steps of it that are done."""

    def __init__(self, *observers: Callable[[int, int], None]) -> None:
        self.observers = list(observers)

    def step(self, epoch: int, done: int, steps: int) -> None:
        """A step of an epoch is done."""
        for observer in self.observers:
            observer(epoch, done)


@dataclass(frozen=True)
class Trained:
    """A training that came to its end.

    Args:
        training: the engine's object, with student, strategy and teacher.
        reached: names of the strategy's parameters that ever got a gradient other than 0.
        started: names of its trained parameters when it began.
        teacher: the teacher's state before.
        awake: names of the teacher's modules that were seen in train mode.
        outcome: all that must be equal where two trainings are: the curve, and a copy of the last state.
    """

    training: Training
    reached: frozenset[str]
    started: frozenset[str]
    teacher: dict[str, Any]
    awake: frozenset[str]
    outcome: dict[str, Any]


class Trainings:
    """The trainings of a strategy, each made once.

    Args:
        kind: the strategy.
        params: values of its hyperparameters.
        epochs: length of a training.
    """

    def __init__(self, kind: type[Strategy], params: dict[str, Any], epochs: int) -> None:
        self.kind, self.params, self.epochs = kind, params, epochs
        self.data: LoadedData = open_quadrants()
        self._rates: dict[tuple[str, str, str], float] = {}

    @cached_property
    def pair(self) -> tuple[str, str]:
        """The first student and teacher that the strategy serves.

        Raises:
            PairError: it refuses all of them.
        """
        refusals = []
        for pair in PAIRS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    self.begin(*pair, Path(folder))
                except PairError as error:
                    refusals.append(error)
                else:
                    return pair
        raise refusals[0]

    @cached_property
    def whole(self) -> Trained:
        """The training of that pair."""
        return self.train(*self.pair)

    def train(self, student: str, teacher: str, *, precision: str = "fp32") -> Trained:
        """Train a student from its first epoch to its last.

        Raises:
            PairError: the strategy refuses this pair.
        """
        with tempfile.TemporaryDirectory() as folder:
            training = self.begin(student, teacher, Path(folder), precision=precision)
            divergence = Divergence(training.strategy)
            try:
                return _run(training)
            except NonFiniteLossError:
                if not divergence.seen or (student, teacher, precision) in self._rates:
                    raise
        self._rates[student, teacher, precision] = RATES[-1]
        return self.train(student, teacher, precision=precision)

    def gentler(self, student: str, teacher: str, *, precision: str = "fp32") -> str:
        """What is said where a pair was trained at a lower rate than the first; empty where it was not."""
        if (student, teacher, precision) not in self._rates:
            return ""
        return f"at a learning rate of {RATES[-1]:g} and with clipped gradients, as it diverges at {RATES[0]:g}"

    def killed(self, in_epoch: int) -> Trained:
        """As ``whole``, killed in an epoch and taken up by new objects, with all random generators elsewhere."""
        with tempfile.TemporaryDirectory() as folder:

            def kill(epoch: int, done: int) -> None:
                if (epoch, done) == (in_epoch, 2):
                    raise Killed

            try:
                self.begin(*self.pair, Path(folder), StepObserver(kill)).run()
            except Killed:
                seed_everything(12345)
                return _run(self.begin(*self.pair, Path(folder)))
            raise AssertionError("the training was to be killed, and ended")

    def begin(
        self,
        student: str,
        teacher: str,
        folder: Path,
        observer: StepObserver | None = None,
        *,
        precision: str = "fp32",
        kind: type[Strategy] | None = None,
    ) -> Training:
        """A training that is ready to run, as a cell's; its checkpoints are kept in the folder."""
        cell = self._cell(student, precision, self._rates.get((student, teacher, precision), RATES[0]))
        taught = self._teacher(teacher)
        seed_everything(cell.seed_for("init"))
        network = create_model(cell.student, self.data.ref, self.data.mean, self.data.std)
        strategy = self._strategy(network.signature(), taught, kind, cell.seed_for("adapters"))
        return Training(
            cell,
            Distiller(network, strategy),
            taught,
            self.data,
            make_accelerator(CPU, precision),
            Checkpoints(folder),
            observer or StepObserver(),
        )

    def _cell(self, student: str, precision: str, rate: float) -> Cell:
        keys: dict[str, Any] = {"lr": rate, "augment": Augment(crop=1), "precision": precision}
        if rate != RATES[0]:
            keys["clip_grad"] = 1.0
        return Cell(
            kind="student",
            data=self.data.ref,
            student=ModelRef.parse(student),
            teacher=None,
            strategy=StrategyRef(name=self.kind.name, distribution="kdzoo.testing", revision="1"),
            recipe=Recipe(name="check", epochs=self.epochs, batch_size=BATCH, **keys),
            seed=0,
        )

    def _teacher(self, name: str) -> Teacher:
        """A network of random weights whose BatchNorm has seen the data: it knows nothing, and its signals are sane."""
        seed_everything(23)
        model = create_model(ModelRef.parse(name), self.data.ref, self.data.mean, self.data.std)
        with torch.no_grad():
            for batch in self.data.eval_batches("fit", BATCH, CPU):
                model.train()(batch.inputs, {"logits"})
        return Teacher(model)

    def _strategy(self, student: Signature, teacher: Teacher, kind: type[Strategy] | None, seed: int) -> Strategy:
        kind, params = (kind, {}) if kind else (self.kind, self.params)
        return build_strategy(kind, params, student, teacher, self.data.ref, seed=seed)


def _run(training: Training) -> Trained:
    """Run a training and look at gradients and at the teacher meanwhile."""
    teacher = teacher_of(training)
    before = copy.deepcopy(teacher.state_dict())
    own = {name: each for name, each in training.strategy.named_parameters() if each.requires_grad}
    reached, awake = set[str](), set[str]()
    for name, parameter in own.items():
        parameter.register_post_accumulate_grad_hook(_notes(name, reached))  # type: ignore[no-untyped-call]

    def look(epoch: int, done: int) -> None:
        awake.update(name for name, part in teacher.named_modules() if part.training)

    assert isinstance(training.watch, StepObserver)
    training.watch.observers.append(look)
    training.run()
    outcome = {f"epoch {line.epoch}": line.model_dump() for line in training.curve}
    outcome |= copy.deepcopy(dict(training.distiller.state_dict()))
    return Trained(training, frozenset(reached), frozenset(own), before, frozenset(awake), outcome)


def phases_of(training: Training) -> tuple[Phase, ...]:
    """The phases of a training, in order."""
    return tuple(phase for phase, epoch in training.plan if epoch == 0)


def teacher_of(training: Training) -> Teacher:
    """The teacher that runs in a training's loop."""
    assert training.teacher is not None
    return training.teacher


def _notes(name: str, reached: set[str]) -> Callable[[Tensor], None]:
    def note(parameter: Tensor) -> None:
        if name not in reached and parameter.grad is not None and bool(parameter.grad.any()):
            reached.add(name)

    return note


_LARGEST = 1e6
"""Size of a signal beyond which a student has diverged: its squares are soon infinite in float32, which says nothing of
the strategy."""


class Divergence:
    """Sees, in a training, what was beyond all bounds first: what the student gives, or what the strategy makes of it.

    Args:
        strategy: whose calls are looked at.
    """

    def __init__(self, strategy: Strategy) -> None:
        self._died: bool | None = None
        strategy.register_forward_hook(self._look)

    @property
    def seen(self) -> bool:
        """Whether no term was the first: the student had diverged before, or only did when it was measured."""
        return not self._died

    def _look(self, strategy: Any, given: tuple[Outputs, ...], terms: Terms) -> None:
        if self._died is None and not all(bool(term.isfinite()) for term in terms.values()):
            self._died = all(map(_bounded, given[0].values.values()))


def _bounded(signal: Any) -> bool:
    parts = (signal,) if isinstance(signal, Tensor) else tuple(signal)
    # The comparison is false for NaN.
    return all(bool((part.abs() <= _LARGEST).all()) for part in parts if part is not None)
