"""Two batches of everything before anything trains: what would fail after hours of a teacher's training fails now."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from kdzoo import foreign
from kdzoo.bench.build import build_strategy
from kdzoo.bench.crashes import crashes_of, start_marked
from kdzoo.bench.plan import BenchPlan, Refusal
from kdzoo.bench.results import out_of_memory
from kdzoo.bench.teachers import blank_teacher
from kdzoo.cell import Cell, canonical_json
from kdzoo.data.load import LoadedData
from kdzoo.declarations import teacher_signals
from kdzoo.engine.checkpoint import Checkpoints
from kdzoo.engine.course import Unwatched, finish
from kdzoo.engine.devices import make_accelerator
from kdzoo.engine.distiller import Distiller, predict
from kdzoo.engine.evaluate import batch_for
from kdzoo.engine.lockstep_group import GeneratorState
from kdzoo.engine.optim import Mixer
from kdzoo.engine.train import Training
from kdzoo.errors import KdzooError, NonFiniteLossError, UsageError, raise_if_interrupted
from kdzoo.measures import SAMPLES
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Teacher
from kdzoo.models.zoo import create_model
from kdzoo.outputs import Batch
from kdzoo.process_state import ProcessState
from kdzoo.record_parts import scores_fault
from kdzoo.refs import DataRef, ModelRef, TeacherRef
from kdzoo.registry import Registry
from kdzoo.store import Store
from kdzoo.strategy import Strategy

BATCHES = 2
_BASELINE = "ce"


class Preflight:
    """Tries what the cells of a plan are made of, each combination once; weights are random, and nothing is kept.

    Args:
        plan: the plan.
        registry: the loaded plugins.
        pending: the cells that will run.
    """

    def __init__(self, plan: BenchPlan, registry: Registry, pending: Sequence[Cell]) -> None:
        self.plan, self.registry = plan, registry
        first: dict[str, Cell] = {}
        for cell in pending:
            first.setdefault(_key(cell), cell)
        self.cells = list(first.values())
        self._models: dict[tuple[ModelRef, DataRef, bool], TappedModel] = {}
        self._teachers: dict[tuple[TeacherRef, DataRef], Teacher] = {}
        self._batches: dict[str, list[Batch]] = {}
        self._evaluated: dict[DataRef, Any] = {}

    def networks(self) -> None:
        """Read two batches of fit and one of tune and test, and train each network on the labels alone.

        Raises:
            UsageError: a dataset cannot be read or scored, or a network cannot be trained so.
        """
        for cell in self.cells:
            data = self.plan.data[cell.data]
            with _apart():
                if cell.data not in self._evaluated:
                    _score(data)
                self._read(cell, data, views=1)
            if cell.strategy.name != _BASELINE:
                continue
            with _apart():
                try:
                    self._try(cell, data)
                except UsageError:
                    raise
                except BaseException as error:
                    raise_if_interrupted(error)
                    if out_of_memory(error):
                        continue  # what else the machine holds decides that, and the cell will say so
                    raise UsageError(
                        f"{cell.student} cannot be trained on {cell.data.name} with the recipe {cell.recipe.name}: "
                        f"{foreign.sentence(error)}; change the recipe (--set recipe.KEY=...) or the model's arguments"
                    ) from error

    def strategies(self, store: Store) -> list[Refusal]:
        """Train two steps with each strategy and a teacher that knows nothing.

        Args:
            store: notes where the process dies of one, and says which ones it died of before; these are not tried.

        Returns:
            Those that break, for the person: their cells fail in their turn, and the others run.
        """
        broken = {(one.strategy, str(one.teacher), str(one.student), one.data) for one in self.plan.broken}
        found: list[Refusal] = []
        for cell in self.cells:
            if cell.strategy.name == _BASELINE or cell.teacher is None:
                continue
            where = (cell.strategy.name, cell.teacher.model, cell.student, cell.data.name)
            if (where[0], str(where[1]), str(where[2]), where[3]) in broken:
                continue
            store.plan(cell)
            with store.claim(cell.id) as mine:  # another bench that is at it will find out
                if mine and (reason := self._broken(cell, store)):
                    found.append(Refusal(*where, reason))
        self._models.clear()
        self._teachers.clear()
        self._batches.clear()
        self._evaluated.clear()
        return found

    def _broken(self, cell: Cell, store: Store) -> str:
        """Why a cell's strategy breaks; empty where it does not, or must not be tried."""
        crashes = crashes_of(store.folder(cell.id))
        if crashes.count:
            return ""
        with _apart(), start_marked(store.folder(cell.id), crashes):
            try:
                self._try(cell, self.plan.data[cell.data])
            except BaseException as error:
                raise_if_interrupted(error)
                if out_of_memory(error):
                    return ""
                text = foreign.text_of(error) if isinstance(error, KdzooError) else None
                return foreign.line(text) if text else foreign.sentence(error, self._entry(cell).homes)
        return ""

    def _entry(self, cell: Cell) -> Any:
        return self.registry.of(cell.strategy)

    def _try(self, cell: Cell, data: LoadedData) -> None:
        device, recipe = self.plan.device, cell.recipe
        student = copy.deepcopy(self._model(cell.student, data, own_input=cell.starts_pretrained))
        peer = copy.deepcopy(self._model(cell.peer, data)) if cell.peer else None
        kind: type[Strategy] = self._entry(cell).value
        teacher = None
        if cell.giver and kind is not None and teacher_signals(kind):
            teacher = self._teacher(cell.giver, data).to(device)
        strategy = build_strategy(kind, cell.strategy.params, student.signature(), teacher, data.ref)
        batches = self._read(cell, data, views=strategy.views)
        mixer = Mixer(recipe, data.ref.num_classes, cell.seed_for("mixup"))

        def feed(number: int) -> Iterator[Batch]:
            return (mixer(batch, step, number) for step, batch in enumerate(batches))

        training = Training(
            cell,
            Distiller(student, strategy, recipe.label_smoothing, peer=peer),
            teacher,
            data,
            make_accelerator(device, recipe.precision),
            Checkpoints(Path()),
            Unwatched(),
            feed=feed,
        )
        training.steps = len(batches)
        for number, (phase, local) in enumerate(training.plan):
            if local == 0:
                training.start_phase(phase)
                with suppress(NonFiniteLossError):  # of a network that knows nothing, that says nothing
                    finish(training.train_epoch(number, training.source.open(phase, 0)))
        training.distiller.refuse_late()
        training.measured.eval()
        strategy.eval()
        with torch.inference_mode():
            predict(training.measured, strategy, self._evaluated[cell.data][: recipe.batch_size])

    def _model(self, ref: ModelRef, data: LoadedData, *, own_input: bool = False) -> TappedModel:
        key = (ref, data.ref, own_input)
        if key not in self._models:
            self._models[key] = create_model(ref, data.ref, data.mean, data.std, own_input=own_input)
        return self._models[key]

    def _teacher(self, ref: TeacherRef, data: LoadedData) -> Teacher:
        """A network of its own, since it is frozen, and the student may be of the same model."""
        key = (ref, data.ref)
        if key not in self._teachers:
            self._teachers[key] = blank_teacher(ref, data)
        return self._teachers[key]

    def _read(self, cell: Cell, data: LoadedData, *, views: int) -> list[Batch]:
        """Two batches of fit, through the loader of a training; and once, one of tune and of test."""
        device, recipe = self.plan.device, cell.recipe
        key = canonical_json([cell.data.fingerprint, recipe.augment.model_dump(mode="json"), recipe.batch_size, views])
        if key not in self._batches:
            fit = data.train_batches(recipe, view=0, order_seed=cell.seed_for("order"), device=device, views=views)
            self._batches[key] = _taken(fit, BATCHES, cell.data, "fit")
        if cell.data not in self._evaluated:
            size = batch_for(data.ref, device)
            for split in ("test", "tune"):
                (batch,) = _taken(data.eval_batches(split, size, device), 1, cell.data, split)
                self._evaluated[cell.data] = batch.inputs
        return self._batches[key]


def _score(data: LoadedData) -> None:
    """Compute a dataset's own measures for random logits."""
    if data.score is None:
        return
    labels = data.labels("test")
    logits = torch.randn(len(labels), data.ref.num_classes, dtype=torch.float64)
    try:
        with torch.inference_mode():
            scores = data.score(logits, labels)
    except UsageError:
        raise
    except BaseException as error:
        raise_if_interrupted(error)
        raise UsageError(f"{data.ref.name}: its measures cannot be computed: {foreign.sentence(error)}") from error
    if fault := scores_fault(scores | {SAMPLES: len(labels)}, data.measures):
        raise UsageError(f"{data.ref.name}: its score is not as it is declared: {fault}")


def _taken(batches: Iterator[Batch], count: int, ref: DataRef, split: str) -> list[Batch]:
    try:
        return list(itertools.islice(batches, count))
    except UsageError:
        raise
    except BaseException as error:
        raise_if_interrupted(error)
        raise UsageError(f"{ref.name}: the {split} split cannot be read: {foreign.sentence(error)}") from error
    finally:
        close: Callable[[], None] = getattr(batches, "close", lambda: None)
        close()


def _key(cell: Cell) -> str:
    """What two cells share that go the same ways."""
    shared = cell.model_dump(
        mode="json", include={"data", "teacher", "student", "init", "strategy", "recipe", "hops", "peer"}
    )
    for name in ("name", "epochs"):
        del shared["recipe"][name]
    return canonical_json([shared, cell.kind == "teacher"])


@contextmanager
def _apart() -> Iterator[None]:
    """Generators and settings are behind the block as they were before it."""
    state = ProcessState.now()
    try:
        with GeneratorState().here():
            yield
    finally:
        state.put_back()
