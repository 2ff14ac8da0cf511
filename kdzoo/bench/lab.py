"""The lab: what every cell needs beside itself, and the teachers, loaded and measured before they teach."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from kdzoo.cell import Cell, DataRef, StrategyRef, TeacherRef, content_hash
from kdzoo.data.load import LoadedData
from kdzoo.engine.evaluate import Evaluation, evaluate
from kdzoo.engine.train import EVAL_BATCH, Split
from kdzoo.errors import KdzooError
from kdzoo.matrix import BASELINE, teacher_cell
from kdzoo.models.profile import profile_model
from kdzoo.models.teacher import Teacher
from kdzoo.models.weights import load_weights
from kdzoo.models.zoo import create_model
from kdzoo.record import EVALUATION, Measures, Size, TeacherMeasures
from kdzoo.registry import Registry
from kdzoo.store import Store, atomic_write

WEIGHTS = "student.safetensors"


def now() -> str:
    """The time in UTC, ISO 8601, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class MeasuredTeacher:
    """A teacher that may teach: frozen, measured, above chance. ``guesses`` are its classes on test, int64."""

    teacher: Teacher
    measures: TeacherMeasures
    guesses: npt.NDArray[np.int64]


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
    """

    store: Store
    registry: Registry
    device: torch.device
    data: dict[DataRef, LoadedData]
    files: dict[str, Path] = field(default_factory=dict)
    command: str = ""
    started: str = field(default_factory=now)
    _loaded: tuple[str, MeasuredTeacher] | None = None

    def teacher(self, cell: Cell) -> MeasuredTeacher | None:
        """The teacher of a cell; the last one stays loaded, since neighbouring cells share it.

        Raises:
            KdzooError: its training failed, or it is not better than chance.
        """
        if cell.teacher is None:
            return None
        key = content_hash([cell.teacher.model_dump(mode="json"), cell.data.model_dump(mode="json"), EVALUATION])
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            self._loaded = (key, self._measured(key, cell.teacher, self.data[cell.data]))
        return self._loaded[1]

    def _measured(self, key: str, ref: TeacherRef, data: LoadedData) -> MeasuredTeacher:
        teacher = self._load(ref, data)
        folder = self.store.teachers / key
        with self.store.claim(f"teacher-{key}", wait=True):
            if not (folder / "measures.json").exists():
                folder.mkdir(exist_ok=True)
                test = self._measure(teacher, data, "test")
                tune = self._measure(teacher, data, "tune")
                model = profile_model(teacher.model, data.ref)
                size = Size(parameters=model.parameters, macs=model.macs)
                measures = TeacherMeasures(size=size, tune=tune.measures, test=test.measures)
                buffer = io.BytesIO()
                np.save(buffer, test.guesses, allow_pickle=False)
                atomic_write(folder / "guesses.npy", buffer.getvalue())
                atomic_write(folder / "measures.json", measures.model_dump_json().encode())
        measures = TeacherMeasures.model_validate_json((folder / "measures.json").read_bytes())
        guesses = np.load(folder / "guesses.npy", allow_pickle=False)
        _require_knowledge(ref, measures.test, data.ref.num_classes)
        return MeasuredTeacher(teacher, measures, guesses)

    def _measure(self, teacher: Teacher, data: LoadedData, split: Split) -> Evaluation:
        batches = data.eval_batches(split, EVAL_BATCH, self.device)
        return evaluate(lambda inputs: teacher(inputs, {"logits"}).logits, batches)

    def _load(self, ref: TeacherRef, data: LoadedData) -> Teacher:
        pretrained = ref.weights == "pretrained"
        model = create_model(ref.model, data.ref, data.mean, data.std, pretrained=pretrained)
        if ref.weights == "file":
            load_weights(model.model, self.files[ref.digest or ""])
        elif not pretrained:
            training = teacher_cell(ref, data.ref, self.baseline())
            record = self.store.find_record(training.id) if training else None
            if training is None or record is None:
                raise KdzooError(f"the teacher {ref.model} has not been trained yet")
            if record.status == "failed":
                raise KdzooError(f"the training of its teacher {ref.model} failed: {record.reason}")
            load_weights(model.model, self.store.folder(training.id) / WEIGHTS)
        return Teacher(model).to(self.device)

    def baseline(self) -> StrategyRef:
        """The label-only baseline, by which teachers are trained too."""
        entry = self.registry.strategy(BASELINE)
        return StrategyRef(
            name=entry.name,
            distribution=entry.plugin.distribution,
            revision=entry.value.revision,
            params=dict(entry.value.resolve({})),
        )


def _require_knowledge(ref: TeacherRef, test: Measures, num_classes: int) -> None:
    """Refuse a teacher within three standard deviations of guessing."""
    chance = 1 / num_classes
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / test.n)
    if test.correct1 / test.n <= bound:
        raise KdzooError(
            f"the teacher {ref.model} scores {test.top1:.1f}% on test, no better than chance ({100 * chance:.1f}%); "
            "train it longer (--teacher-epochs) or give other weights (--teacher-weights)"
        )
