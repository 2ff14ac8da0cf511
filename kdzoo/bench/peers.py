"""A second student: how it is made and measured."""

from __future__ import annotations

from typing import Any

from kdzoo.bench.lab import Lab
from kdzoo.cell import Cell
from kdzoo.data.load import LoadedData
from kdzoo.engine.devices import seed_everything
from kdzoo.engine.distiller import Deployment
from kdzoo.engine.evaluate import measure
from kdzoo.engine.train import Training
from kdzoo.errors import KdzooError
from kdzoo.measures import PEER, TOP1, main_of
from kdzoo.models.taps import TappedModel
from kdzoo.models.zoo import create_model
from kdzoo.record_parts import PeerMeasures, Size


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
