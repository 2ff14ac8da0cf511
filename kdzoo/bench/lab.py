"""The lab: what every cell needs beside itself, and the teachers, loaded and measured before they teach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from kdzoo.bench.auxiliary import measures_of_assistant, trained
from kdzoo.bench.events import Events, Named, hooks_of
from kdzoo.bench.teacher_checks import Advice, admit, advise, read_measures, write_measures
from kdzoo.bench.teachers import teacher_network
from kdzoo.bench.trackers import Tracking
from kdzoo.cell import Cell, content_hash
from kdzoo.data.load import LoadedData, Split
from kdzoo.declarations import Signature
from kdzoo.engine.bank.bank import Bank
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.engine.devices import compile_network
from kdzoo.engine.evaluate import Evaluation, batch_for, evaluate
from kdzoo.engine.world import ALONE, World
from kdzoo.errors import KdzooError
from kdzoo.models.taps import TappedModel
from kdzoo.models.teacher import Committee, Teacher
from kdzoo.models.weights import file_digest, load_weights
from kdzoo.models.zoo import profile_model
from kdzoo.needed import assistant_cells, teacher_cell
from kdzoo.record import EVALUATION
from kdzoo.record_parts import Size, TeacherMeasures
from kdzoo.refs import DataRef, ModelRef, TeacherRef
from kdzoo.registry import Registry
from kdzoo.store import Store


def now() -> str:
    """The time in UTC, ISO 8601, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class MeasuredTeacher:
    """A teacher that may teach: frozen, measured, above chance or vouched for.

    Args:
        teacher: the network.
        measures: of tune and test.
        guesses: its classes on test, int64.
        weights: a hash that names the network with its weights and the way in which it is shown images.
        digest: SHA-256 of its file of weights, or of timm's tensors; empty for several.
        members: each of several teachers, in their order; the rest is of all together.
    """

    teacher: Teacher
    measures: TeacherMeasures
    guesses: npt.NDArray[np.int64]
    weights: str
    digest: str = ""
    members: tuple[MeasuredTeacher, ...] = ()


@dataclass(frozen=True)
class Expected:
    """A cell of a bench, for how many it stands, and whether it was known when the bench began."""

    cell: Cell
    count: int
    planned: bool


@dataclass
class Lab:
    """The store, the opened data, the plugins, the device.

    Args:
        store: where cells live.
        registry: the loaded plugins.
        device: where cells are trained.
        data: the opened datasets.
        files: teachers' weight files by their SHA-256.
        command: the command line, for the records.
        started: when this bench began; what was recorded later is not done over.
        log_with: the trackers that log each cell.
        bank: how the teacher's signals are kept; None runs the teacher in the loop.
        eval_every: after how many epochs tune is measured.
        compile: whether networks run through torch.compile.
        trust_teacher: whether a teacher may teach that is not above chance.
        expected: the cells of the bench by their ids; see :func:`kdzoo.bench.banking.expect`.
        signatures: the shapes of students that were found out, by model, data and what they start from.
    """

    store: Store
    registry: Registry
    device: torch.device
    data: dict[DataRef, LoadedData]
    files: dict[str, Path] = field(default_factory=dict)
    command: str = ""
    started: str = field(default_factory=now)
    log_with: tuple[str, ...] = ()
    bank: BankSettings | None = None
    eval_every: int = 1
    compile: bool = False
    trust_teacher: bool = False
    expected: dict[str, Expected] = field(default_factory=dict)
    signatures: dict[tuple[ModelRef, DataRef, str], Signature] = field(default_factory=dict)
    _say: Callable[[str], None] | None = None
    _said: set[str] = field(default_factory=set)
    _bank: Bank | None = None
    _loaded: tuple[str, MeasuredTeacher] | None = None
    _assistant: tuple[str, MeasuredTeacher] | None = None
    _sizes: dict[tuple[ModelRef, DataRef, tuple[int, int]], Size] = field(default_factory=dict)
    _events: Events | None = None
    _world: World = ALONE
    _counts_crashes: bool = False

    @property
    def counts_crashes(self) -> bool:
        """Whether starts of cells are marked, because no other process sees this one die."""
        return self._counts_crashes

    def count_crashes(self) -> None:
        """Mark the starts of cells from now on; see :mod:`kdzoo.bench.crashes`."""
        self._counts_crashes = True

    @property
    def world(self) -> World:
        """The processes that train each cell together; by default this one alone."""
        return self._world

    def train_in(self, world: World) -> None:
        """Divide each cell among several processes, of which each has a lab of its own."""
        self._world = world

    @property
    def events(self) -> Events:
        """Tells plugins and trackers how the cells go that this process runs."""
        if self._events is None:
            trackers = [Named(f"--log-with {name}", Tracking(name, self.store)) for name in self.log_with]
            self._events = Events([*hooks_of(self.registry.plugins), *trackers])
        return self._events

    def say_with(self, say: Callable[[str], None]) -> None:
        """Give each line that a person should read to this; nobody reads them by default."""
        self._say = self.store.say = say

    def say(self, line: str) -> None:
        """Tell a person."""
        if self._say is not None:
            self._say(line)

    def say_once(self, line: str) -> None:
        """Tell a person, unless this line was told before."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def open_bank(self) -> Bank | None:
        """The bank of this process; None where the teacher runs in the loop."""
        if self._bank is None and self.bank is not None and self.bank.mode != "off":
            self._bank = Bank(self.store, self.bank, self.say)
        return self._bank

    def teacher(self, cell: Cell) -> MeasuredTeacher | None:
        """The teacher of a cell; the last one stays loaded, since neighbouring cells share it.

        Raises:
            KdzooError: its training failed, or it is not above chance and nobody vouches for it.
        """
        if cell.teacher is None:
            return None
        key = content_hash([cell.teacher.model_dump(mode="json"), cell.data.model_dump(mode="json")])
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            measured = self._measured_together if cell.teacher.members else self._measured
            self._loaded = (key, measured(cell.teacher, self.data[cell.data]))
        return self._loaded[1]

    def giver(self, cell: Cell) -> MeasuredTeacher | None:
        """Who gives the signals of a cell: its teacher, or the last of the networks between teacher and student.

        None where two students teach each other.

        Raises:
            KdzooError: as :meth:`teacher`; or the training of such a network failed.
        """
        taught = None if cell.peer else self.teacher(cell)
        if not cell.hops or cell.giver is None:
            return taught
        training = assistant_cells(cell)[-1]
        if self._assistant is None or self._assistant[0] != training.id:
            self._assistant = None
            data = self.data[cell.data]
            record, path = trained(training, self.store)
            teacher = self._load(cell.giver, data, path)
            if self.compile:
                compile_network(teacher.model)
            measures = measures_of_assistant(record)
            identity = content_hash([training.student.model_dump(mode="json"), cell.giver.own_input, file_digest(path)])
            nobody = np.empty(0, dtype=np.int64)
            self._assistant = (training.id, MeasuredTeacher(teacher, measures, nobody, identity))
        return self._assistant[1]

    def _measured_together(self, ref: TeacherRef, data: LoadedData) -> MeasuredTeacher:
        """Several teachers, each measured and admitted by itself, and then what they say together."""
        members = tuple(self._measured(member, data) for member in ref.members)
        committee = Committee([member.teacher for member in members])
        key = content_hash([[member.weights for member in members], data.ref.model_dump(mode="json"), EVALUATION])
        with self.store.claim(f"teacher-{key}", wait=True):
            found = read_measures(self.store.teachers / key)
            if found is None:
                test, tune = (self._measure(committee, data, split) for split in ("test", "tune"))
                sizes = [member.measures.size for member in members]
                size = Size(parameters=sum(one.parameters for one in sizes), macs=sum(one.macs for one in sizes))
                found = TeacherMeasures(size=size, tune=tune.scores, test=test.scores), test.guesses
                write_measures(self.store.teachers / key, *found)
        measures = admit(ref, data, *found, Advice(), trusted=self.trust_teacher, say=self.say_once)
        each = tuple(member.measures.model_copy(update={"weights": member.digest}) for member in members)
        return MeasuredTeacher(committee, measures.model_copy(update={"members": each}), found[1], key, members=members)

    def _measured(self, ref: TeacherRef, data: LoadedData) -> MeasuredTeacher:
        weights = self._weights(ref, data)
        teacher = self._load(ref, data, weights)
        digest = file_digest(weights) if weights else None
        asked = [one.model_dump(mode="json", exclude_defaults=True) for one in (ref, data.ref)]
        key = content_hash([*asked, digest, EVALUATION])
        folder = self.store.teachers / key
        with self.store.claim(f"teacher-{key}", wait=True):
            found = read_measures(folder)
            tune = None
            if found is None:
                test = self._measure(teacher, data, "test")
                tune = self._measure(teacher, data, "tune")
                size = self.size(ref.model, teacher.model, data)
                found = TeacherMeasures(size=size, tune=tune.scores, test=test.scores), test.guesses
                write_measures(folder, *found)
            advice = advise(
                teacher,
                ref,
                data,
                lambda: (tune or self._measure(teacher, data, "tune")).guesses,
                folder=folder,
                weights=weights,
                device=self.device,
            )
        guesses = found[1]
        measures = admit(ref, data, *found, advice, trusted=self.trust_teacher, say=self.say_once)
        identity = [ref.model.model_dump(mode="json"), ref.own_input, digest or ref.digest]
        if shown := ref.model_dump(mode="json", include={"input", "average"}, exclude_none=True):
            identity.append(shown)
        if self.compile:
            compile_network(teacher.model)
        return MeasuredTeacher(teacher, measures, guesses, content_hash(identity), digest or ref.digest or "")

    def size(self, ref: ModelRef, model: TappedModel, data: LoadedData) -> Size:
        """The size of a network, which all cells that train it share."""
        key = (ref, data.ref, model.input_size)
        if key not in self._sizes:
            profile = profile_model(model, data.ref)
            self._sizes[key] = Size(parameters=profile.parameters, macs=profile.macs)
        return self._sizes[key]

    def _measure(self, teacher: Teacher, data: LoadedData, split: Split) -> Evaluation:
        batches = data.eval_batches(split, batch_for(data.ref, self.device), self.device)
        return evaluate(lambda inputs: teacher(inputs, {"logits"}).logits, batches, score=data.score)

    def _weights(self, ref: TeacherRef, data: LoadedData) -> Path | None:
        """The file of a teacher's weights; None for timm's own.

        Raises:
            KdzooError: its training failed or is not there, or its file is no longer what it was.
        """
        if ref.weights == "pretrained":
            return None
        if ref.weights == "file":
            path = self.files[ref.digest or ""]
            if file_digest(path) != ref.digest:
                raise KdzooError(f"the weights {path} were changed while the bench ran; run the command again")
            return path
        training = teacher_cell(ref, data.ref)
        if training is None:
            raise KdzooError(f"the teacher {ref.model} has not been trained yet")
        return trained(training, self.store)[1]

    def _load(self, ref: TeacherRef, data: LoadedData, weights: Path | None) -> Teacher:
        model = teacher_network(ref, data, pretrained=weights is None)
        if weights:
            load_weights(model.model, weights, ref.average)
        return Teacher(model).to(self.device)
