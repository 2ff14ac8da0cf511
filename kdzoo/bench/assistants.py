"""What was trained for another cell: its record and weights, and what a record says of the networks between."""

from __future__ import annotations

from pathlib import Path

from kdzoo.bench.weightfiles import WEIGHTS, weights_fault
from kdzoo.cell import Cell
from kdzoo.errors import KdzooError
from kdzoo.measures import AGREEMENT, ASSISTANTS, TRAIN
from kdzoo.needed import assistant_cells
from kdzoo.record import Record
from kdzoo.record_parts import AssistantMeasures, TeacherMeasures
from kdzoo.store import Store


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
