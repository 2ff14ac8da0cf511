"""Networks that are trained for a student: assistants before it, and a second student beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdzoo.bench.weightfiles import WEIGHTS, weights_fault
from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.distiller import Deployment
from kdzoo.engine.evaluate import measure
from kdzoo.engine.train import Training
from kdzoo.errors import KdzooError
from kdzoo.measures import AGREEMENT, ASSISTANTS, PEER, TOP1, TRAIN, main_of
from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import create_model
from kdzoo.needed import assistant_cells
from kdzoo.record import Record
from kdzoo.record_parts import AssistantMeasures, PeerMeasures, Size, TeacherMeasures
from kdzoo.store import Store

if TYPE_CHECKING:
    from kdzoo.bench.lab import Lab


def trained(training: Cell, store: Store) -> tuple[Record, Path]:
    """The record and the weights of a cell that was trained for another one.

    Raises:
        KdzooError: it failed or is not there, or its file is no longer what it was.
    """
    record, what = store.find_record(training.id), f"{training.kind} {training.student}"
    if record is None:
        raise KdzooError(f"the {what} has not been trained yet")
    if record.status == "failed":
        raise KdzooError(f"the training of its {what} failed: {record.reason}")
    path = store.folder(training.id) / WEIGHTS
    if fault := weights_fault(path, record):
        raise KdzooError(
            f"the weights of the {what} cannot be used: {path} {fault}; run the command again, which retrains the "
            f"{training.kind}"
        )
    return record, path


def measures_of_assistant(record: Record) -> TeacherMeasures:
    """What the record of a network between teacher and student says of it as a teacher.

    Raises:
        KdzooError: it is not done.
    """
    if record.student is None or record.tune is None or record.test is None:
        raise KdzooError(f"the assistant {record.cell.student} is not done")
    test = {name: value for name, value in record.test.items() if name != AGREEMENT.name}
    return TeacherMeasures(size=record.student, tune=record.tune, test=test)


def recorded_assistants(cell: Cell, store: Store) -> tuple[AssistantMeasures, ...]:
    """What the records say of the networks between the teacher and the student of a cell, which are trained.

    Raises:
        KdzooError: one of them is not done.
    """
    found = []
    for training in assistant_cells(cell):
        record, _ = trained(training, store)
        whole, cost = measures_of_assistant(record), record.cost or {}
        found.append(
            AssistantMeasures(
                cell=training.id,
                size=whole.size,
                tune=whole.tune,
                test=whole.test,
                weights=record.weights[WEIGHTS],
                seconds=cost[TRAIN.name] - cost.get(ASSISTANTS.name, 0.0),
            )
        )
    return tuple(found)


def second_student(cell: Cell, data: LoadedData, lab: Lab) -> TappedModel | None:
    """The second student of a cell, from a seed of its own.

    Raises:
        KdzooError: several processes train the cell.
    """
    if cell.peer is None:
        return None
    if lab.world.size > 1:
        raise KdzooError("two students at once are trained by one process: run the cell without a launcher")
    seed_everything(cell.seed_for("peer"))
    return create_model(cell.peer, data.ref, data.mean, data.std)


def measure_peer(
    training: Training, peer: Deployment, size: Size, lab: Lab, measured: dict[str, Any]
) -> dict[str, Any]:
    """What a record says of a second student; its score stands among the student's scores too, for boards."""
    data, strategy = training.data, training.strategy
    tune = measure(peer, strategy, data, "tune", lab.device).scores
    if "test" not in measured:
        return {"peer": PeerMeasures(size=size, tune=tune, test=None)}
    test = measure(peer, strategy, data, "test", lab.device).scores
    shown = {PEER.name: test[TOP1.name]} if main_of(data.measures) is TOP1 else {}
    return {"peer": PeerMeasures(size=size, tune=tune, test=test), "test": measured["test"] | shown}
