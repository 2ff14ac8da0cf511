"""Records of cells: which stand and which are made again, and what they say whatever came of the cell."""

from __future__ import annotations

from typing import Any

from kdzoo.bench.deaths import Deaths, deaths_of
from kdzoo.bench.executors.executor import stands
from kdzoo.bench.lab import Lab, now
from kdzoo.bench.surroundings import environment_of
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.record import Record

_AGAIN = "; --rerun failed tries it again"


def find_done(cell: Cell, lab: Lab, rerun: Rerun) -> Record | None:
    """The record of a cell that need not run; None where it must, or where another process holds it."""
    if lab.store.find_record(cell.id) is None:
        return None
    with lab.store.claim(cell.id) as mine:
        return kept(cell, lab, rerun) if mine else None


def kept(cell: Cell, lab: Lab, rerun: Rerun) -> Record | None:
    """The record of a cell that this process holds, where it stands."""
    found = lab.store.claimed_record(cell.id)
    if found is None or (not stands(found, rerun) and found.ended < lab.started):
        return None
    lab.store.clear(cell.id)  # a kill may have come between the record and this
    return found


def fatal(cell: Cell, lab: Lab) -> Record | None:
    """The record, made now, of a cell that ended its process too often; None where it may be tried."""
    deaths = deaths_before(cell, lab)
    return _failed(cell, lab, deaths.fatal + _AGAIN, deaths.count) if deaths.fatal else None


def deaths_before(cell: Cell, lab: Lab) -> Deaths:
    """How often a cell ended its process; see :mod:`kdzoo.bench.deaths`."""
    homes = lab.registry.strategy(f"{cell.strategy.distribution}:{cell.strategy.name}").homes
    return deaths_of(lab.store.folder(cell.id), homes)


def record_loss(cell: Cell, lab: Lab, reason: str, deaths: int) -> Record:
    """Record that the process which ran a cell died, and will not be tried again; a record it left behind stands.

    Args:
        cell: which.
        lab: its store.
        reason: how it died.
        deaths: how often that was the cell's doing.
    """
    with lab.store.claim(cell.id, wait=True):
        found = lab.store.claimed_record(cell.id)
        if found and found.ended >= lab.started:
            return found
        return _failed(cell, lab, reason + (_AGAIN if deaths else ""), deaths)


def _failed(cell: Cell, lab: Lab, reason: str, deaths: int) -> Record:
    record = Record(status="failed", **frame_of(cell, lab), reason=reason, deaths=deaths, ended=now())
    return keep_record(record, lab)


def keep_record(record: Record, lab: Lab) -> Record:
    """Write a record, and tell of it."""
    lab.store.write_record(record)
    lab.store.clear(record.id)
    lab.store.log(record.status, cell=record.id)
    lab.events.record_written(record)
    return record


def frame_of(cell: Cell, lab: Lab) -> dict[str, Any]:
    """What a record says whatever came of the cell."""
    return {
        "id": cell.id,
        "cell": cell,
        "family": lab.registry.strategy(f"{cell.strategy.distribution}:{cell.strategy.name}").value.family,
        "environment": environment_of(cell, lab),
        "command": lab.command,
        "started": now(),
    }
