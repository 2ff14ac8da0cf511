"""Records of cells: which are final and which are made again, and what stands in the record of a failed cell."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import torch

from kdzoo import foreign
from kdzoo.bench.crashes import Crashes, crashes_of
from kdzoo.bench.environment import environment_of
from kdzoo.bench.lab import Lab, now
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.errors import KdzooError
from kdzoo.record import Record
from kdzoo.registry import Registry
from kdzoo.store import Store

_AGAIN = "; --rerun failed retries it"


def stands(record: Record, rerun: Rerun) -> bool:
    """Whether a finished cell is left as it is."""
    if record.status == "failed":
        return rerun == "never" or (rerun == "safe" and record.deaths > 0)
    return rerun != "always"


def must_run(cell: Cell, store: Store, rerun: Rerun) -> bool:
    """Whether a cell has no record that stands."""
    found = store.find_record(cell.id)
    return found is None or not stands(found, rerun)


def find_done(cell: Cell, lab: Lab, rerun: Rerun) -> Record | None:
    """The record of a cell that need not run; None where it must, or where another process holds it."""
    if not os.path.lexists(lab.store.folder(cell.id) / "record.json"):
        return None
    with lab.store.claim(cell.id) as mine:
        return final_record(cell, lab, rerun) if mine else None


def final_record(cell: Cell, lab: Lab, rerun: Rerun) -> Record | None:
    """The record of a cell that this process holds, where it stands."""
    found = lab.store.claimed_record(cell.id)
    if found is None or (not stands(found, rerun) and found.ended < lab.started):
        return None
    _tidy(found, lab)  # a kill may have come between the record and this
    return found


def fatal(cell: Cell, lab: Lab) -> Record | None:
    """The record, made now, of a cell that ended its process too often; None where it may be tried."""
    crashes = crashes_before(cell, lab)
    return _failed(cell, lab, crashes.fatal + _AGAIN, crashes.count) if crashes.fatal else None


def crashes_before(cell: Cell, lab: Lab) -> Crashes:
    """How often a cell ended its process; see :mod:`kdzoo.bench.crashes`."""
    homes = lab.registry.of(cell.strategy).homes
    return crashes_of(lab.store.folder(cell.id), homes)


def record_crash(cell: Cell, lab: Lab, reason: str, deaths: int) -> Record:
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
    _tidy(record, lab)
    lab.store.log(record.status, cell=record.id)
    lab.events.record_written(record)
    return record


def _tidy(record: Record, lab: Lab) -> None:
    """Forget the checkpoints of a cell that has its record, but for those that a higher rung takes up."""
    if not (record.cell.goes_on and record.status == "done"):
        lab.store.clear(record.id)


def frame_of(cell: Cell, lab: Lab) -> dict[str, Any]:
    """What a record says whatever came of the cell."""
    return {
        "id": cell.id,
        "cell": cell,
        "family": lab.registry.of(cell.strategy).value.family,
        "environment": environment_of(cell, lab),
        "command": lab.command,
        "started": now(),
    }


def failure_reason(error: BaseException, cell: Cell, registry: Registry) -> str:
    """What went wrong in a cell, in one line, and where in the strategy's own code, unless it told so itself."""
    sentence = _fault_text(error)
    entry = registry.of(cell.strategy)
    line = "" if isinstance(error, KdzooError) else foreign.place_of(error, entry.homes)
    return f"{sentence} ({line})" if line else sentence


def _fault_text(error: BaseException) -> str:
    text = foreign.line(foreign.text_of(error))
    if out_of_memory(error):
        return f"out of memory: {text}".rstrip(": ")
    return text if isinstance(error, KdzooError) and text else foreign.sentence(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The allocators of CPU and MPS raise a plain RuntimeError.
    pattern = r"can't allocate memory|not enough memory|out of memory|ALLOC_FAILED"
    return isinstance(error, RuntimeError) and re.search(pattern, foreign.line(foreign.text_of(error))) is not None


def disk_is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error; safetensors tells it in words only."""
    causes = [each for each in (error, error.__cause__, error.__context__) if each]
    full = any(isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT) for each in causes)
    return full or any(os.strerror(errno.ENOSPC) in foreign.text_of(each) for each in causes)
