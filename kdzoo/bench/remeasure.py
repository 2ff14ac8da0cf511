"""Measures published students again, from the weights in a store, and tells where a record does not agree."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import torch
from safetensors import SafetensorError

from kdzoo import foreign
from kdzoo.bench.build import build_strategy
from kdzoo.bench.teachers import blank_teacher
from kdzoo.bench.weightfiles import DEPLOYED, WEIGHTS, weights_fault
from kdzoo.cell import PROTOCOL, Cell, canonical_json
from kdzoo.data.dataset import unescape
from kdzoo.data.load import LoadedData, open_data
from kdzoo.engine.devices import pick_device
from kdzoo.engine.distiller import Deployment
from kdzoo.engine.evaluate import measure
from kdzoo.errors import KdzooError, UsageError, raise_if_interrupted
from kdzoo.foreign import printable
from kdzoo.measures import SAMPLES, Scores
from kdzoo.models.memory_format import lay_out
from kdzoo.models.taps import TappedModel
from kdzoo.models.weightfile import read_header
from kdzoo.models.weights import load_weights
from kdzoo.models.zoo import create_model
from kdzoo.process_state import ProcessState
from kdzoo.record import EVALUATION, Record
from kdzoo.refs import DataRef, ModelRef
from kdzoo.registry import Registry
from kdzoo.store import Store
from kdzoo.strategy import Strategy


def remeasure(
    records: Iterable[Record],
    store: Store,
    registry: Registry,
    *,
    data_dir: Path | None,
    device: str = "auto",
    measured: Callable[[str], object] = lambda identity: None,
) -> list[str]:
    """Measure the done students among some records again on test.

    Neither records nor weights are trusted: weights are read as safetensors only, and nothing is downloaded or read
    that a record names by a hub's address or a path.

    Args:
        records: published records; trials, teachers and failures among them are passed over.
        store: holds the weights, in the folders of the cells.
        registry: the loaded plugins.
        data_dir: the folder that holds datasets.
        device: where to measure; as ``--device``.
        measured: told the id of each student that was measured, whether or not it is as its record says.

    Returns:
        One line ``id: reason`` for each record that could not be confirmed; it lacks its weights or its dataset, has
        foreign ones, or differs in parameters, or in the main measure by more than the measure allows.

    Raises:
        UsageError: the device is not there.
    """
    where = pick_device(device)
    students = [record for record in records if record.cell.kind == "student" and record.status == "done"]
    students.sort(key=lambda record: (canonical_json(record.cell.data.model_dump(mode="json")), record.id))
    faults = []
    # One dataset is open at a time, because each may fill a good part of the memory.
    for ref, group in groupby(students, key=lambda record: record.cell.data):
        data = _open(ref, registry, data_dir)
        for record in group:
            reason = data if isinstance(data, str) else _fault(record, store, registry, data, where, measured)
            if reason:
                faults.append(f"{record.id}: {printable(reason)}")
    return faults


def rebuild(cell: Cell, folder: Path, data: LoadedData, registry: Registry) -> tuple[Deployment, Strategy]:
    """The trained student of a cell, with the modules that its strategy left in it, and the strategy by which it
    predicts.

    Args:
        cell: a student's.
        folder: the cell's folder of the store.
        data: the cell's dataset.
        registry: the loaded plugins.

    Raises:
        UsageError: the strategy or the model is unknown here, a model is a hub's or a folder's, or a file of weights
            is missing, damaged, or not the cell's.
        PairError: the strategy asks for the classifier of a teacher that has none.
    """
    student = create_model(
        _built_in(cell.student), data.ref, data.mean, data.std, pretrained=False, own_input=cell.starts_pretrained
    )
    strategy = _strategy(cell, student, data, registry)
    deployment = Deployment(student, strategy)
    _load(student.model, folder / WEIGHTS, cell)
    if deployment.extra:
        _load(deployment.extra, folder / DEPLOYED, cell)
    return deployment, strategy


def _built_in(ref: ModelRef) -> ModelRef:
    """A model that timm makes of its own code, as all but those of a hub and of a folder."""
    if ":" in ref.name:
        raise UsageError(f"the model {ref} is made of files from a hub or a folder, which a check does not read")
    return ref


def _open(ref: DataRef, registry: Registry, data_dir: Path | None) -> LoadedData | str:
    """The dataset of a cell, or why it cannot be had."""
    if ref.name.startswith("folder:") and set(unescape(ref.name)) & set("/\\"):
        return f"the dataset {ref.name} is a path, which a check does not follow; a record names a folder by its name"
    if ref.name.startswith(("hfds/", "hfids/")) and not os.environ.get("HF_HUB_OFFLINE"):
        return f"the dataset {ref.name} comes from a hub; set HF_HUB_OFFLINE=1 to measure with its local cache"
    try:
        data = open_data(ref.name, registry.find_dataset, data_dir=data_dir, img_size=ref.img_size)
    except UsageError as error:
        return str(error)
    if data.ref.fingerprint != ref.fingerprint:
        here = data.ref.fingerprint
        return f"the dataset {ref.name} differs here: its fingerprint is {here}, not {ref.fingerprint}"
    if data.ref != ref:
        return f"the dataset {ref.name} is split or shaped in another way here: {data.ref}, not {ref}"
    return data


def _fault(
    record: Record,
    store: Store,
    registry: Registry,
    data: LoadedData,
    device: torch.device,
    measured: Callable[[str], object],
) -> str:
    """Why a record is not confirmed; empty where it is."""
    if (record.cell.protocol, record.evaluation) != (PROTOCOL, EVALUATION):
        return (
            f"made by protocol {record.cell.protocol} and evaluation {record.evaluation}, "
            f"and this kdzoo measures by {PROTOCOL} and {EVALUATION}"
        )
    state = ProcessState.now()
    try:
        deployment, strategy = rebuild(record.cell, store.folder(record.id), data, registry)
        lay_out(deployment.student.model, device)
        test = measure(deployment.to(device), strategy.to(device), data, "test", device).scores
    except KdzooError as error:
        return foreign.line(foreign.text_of(error))
    except BaseException as error:  # a plugin's strategy may fail in any way
        raise_if_interrupted(error)
        return f"cannot be measured: {foreign.sentence(error)}"
    finally:
        state.put_back()
    measured(record.id)
    parameters = sum(parameter.numel() for parameter in deployment.parameters())
    return _difference(record, test, parameters) or _damage(record.id, store)


def _difference(record: Record, test: Scores, parameters: int) -> str:
    """Where a record differs from what was measured; empty where it does not."""
    if record.test is None or record.student is None:
        return "the record lacks its measures"
    if record.student.parameters != parameters:
        return f"the student has {parameters:,} parameters, and the record says {record.student.parameters:,}"
    if record.test[SAMPLES] != test[SAMPLES]:
        return f"there are {test[SAMPLES]:,} test samples, and the record says {record.test[SAMPLES]:,}"
    main, recorded = record.main, record.test[record.main.name]
    if main.name not in test:
        return f"the dataset here does not measure {main.title}, which the record has"
    if abs(test[main.name] - recorded) > main.tolerance_elsewhere:
        here, there = (main.text(value, " ") for value in (test[main.name], recorded))
        return f"{main.title} on test is {here}, and the record says {there}"
    return ""


def _damage(cell_id: str, store: Store) -> str:
    """Which file of weights is not what the store's own record tells of, though it measures the same; or nothing."""
    with contextlib.suppress(KdzooError):  # whatever else is wrong there, the published record is confirmed
        if own := store.find_record(cell_id):
            for path in (store.folder(cell_id) / name for name in own.weights):
                if fault := weights_fault(path, own):
                    return f"the weights {path} were changed: the file {fault}"
    return ""


def _strategy(cell: Cell, student: TappedModel, data: LoadedData, registry: Registry) -> Strategy:
    """What predicts. The teacher's network is made, without its weights, only where a strategy needs its shapes."""
    kind = registry.of(cell.strategy).value
    own = student.signature()
    if kind.predict is Strategy.predict and not kind.deployed:
        return build_strategy(Strategy, {}, own, None, data.ref)
    teacher = None
    if cell.giver:
        for part in cell.giver.parts:
            _built_in(part.model)
        teacher = blank_teacher(cell.giver, data)
    return build_strategy(kind, cell.strategy.params, own, teacher, data.ref)


def _load(module: torch.nn.Module, path: Path, cell: Cell) -> None:
    written_for = _cell_of(path)
    if written_for != cell.id:
        raise UsageError(f"the weights {path} were written for the cell {written_for}, so they are another student's")
    load_weights(module, path)


def _cell_of(path: Path) -> str:
    """The cell that a file of weights says it was written for.

    Raises:
        UsageError: the file is missing, damaged, or says nothing of the kind.
    """
    if not path.is_file():
        raise UsageError(f"the weights {path} are not there")
    try:
        cell = read_header(path).get("cell")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"the weights {path} are damaged, or not a file of weights") from error
    if not isinstance(cell, str):
        raise UsageError(f"the weights {path} do not say which cell they were written for, so kdzoo did not write them")
    return cell
