"""What runs on a node of a Ray cluster: one job, in a lab that stays for the next one; and its files on their way."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from kdzoo.bench.executors.jobs import Event, EventWatch, Job, JobStarted, RunCell
from kdzoo.bench.executors.worker import LabSettings, Raised, check_cell, portable, say
from kdzoo.bench.lab import Expected, Lab
from kdzoo.cell import Cell, content_hash
from kdzoo.data import decoding
from kdzoo.errors import KdzooError, OddFileError
from kdzoo.files import atomic_write, read_plain
from kdzoo.needed import trainings
from kdzoo.store import Store

Parcel: TypeAlias = dict[str, bytes]
"""Path within a store -> content."""

FILES = "files"
"""Folder of a scratch store for the teachers' weight files that are no cell's."""


def pack_teacher(cell: Cell, lab: Lab) -> Parcel:
    """All that a cell needs beside its data: its teacher's record and weights, and what was measured of it."""
    store, parcel = lab.store, pack_measures(lab.store)
    for training in trainings(cell):
        parcel |= pack_cell(training, store)
    if cell.teacher and cell.teacher.weights == "file":
        path = lab.files[cell.teacher.digest or ""]
        parcel[f"{FILES}/{cell.teacher.digest}{path.suffix}"] = path.read_bytes()
    return parcel


def pack_cell(cell: Cell, store: Store) -> Parcel:
    """What a finished cell leaves: its record, with the curve, its weights and logs; no checkpoints."""
    folder = store.folder(cell.id)
    return _pack(store, (path for path in folder.rglob("[!.]*") if not path.name.startswith("checkpoint-")))


def pack_measures(store: Store) -> Parcel:
    """What was measured of teachers, and what the bank decided to keep of their passes."""
    return _pack(store, (*store.teachers.glob("*/[!.]*"), *store.bank.glob("kept-*.json")))


def _pack(store: Store, paths: Iterable[Path]) -> Parcel:
    return {path.relative_to(store.path).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def unpack(parcel: Parcel, store: Store) -> None:
    """Write what is not there yet; records last, so that no record stands without its weights.

    What the bank decided here stands: cells have read by it.

    Raises:
        UsageError: the disk is full.
    """
    for name in sorted(parcel, key=lambda name: (name.endswith("record.json"), name)):
        path = store.path / name
        with store.writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            decided = path.parent == store.bank
            if not path.exists() or (not decided and not _holds(path, parcel[name])):
                atomic_write(path, parcel[name])


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_plain(path, len(content)) == content
    except (OSError, OddFileError):
        return False


_STEP_SECONDS = 0.5
_lab: tuple[str, Lab] | None = None


@dataclass(frozen=True)
class Reply:
    """The result of a job, or what it raised, and the files that it left, where no folder is shared."""

    result: object
    parcel: Parcel


def run_job(
    bench: str,
    settings: LabSettings,
    expected: Mapping[str, Expected],
    token: int,
    job: Job,
    events: Any,
    parcel: Parcel | None,
) -> Reply:
    """Do one job.

    Args:
        bench: names the bench; its lab is kept for the next task that this process gets.
        settings: of the lab.
        expected: what the lab's ``expected`` shall hold.
        token: the job's number.
        job: what to do.
        events: Ray's queue, which takes the events, pickled.
        parcel: what the job needs of the driver's store; None where the store's folder is shared.
    """

    def tell(event: Event) -> None:
        events.actor.put_nowait.remote(pickle.dumps(event))  # not waited for: progress may come late, training goes on

    try:
        torch.set_num_threads(job.threads)
        decoding.WORKERS = job.threads
        lab = _lab_of(bench, settings, shared=parcel is None)
        lab.expected |= expected
        check_cell(job.cell, lab)
        if parcel is not None:
            _receive(parcel, lab)
        lab.say_with(partial(say, token, tell))
        tell(JobStarted(token))
        if parcel is not None and isinstance(job, RunCell):
            # The driver holds the cell. Who has it here is a task of a driver that died, and will end.
            job = dataclasses.replace(job, wait=True)
        result = job(lab, EventWatch(token, tell, _STEP_SECONDS))
        return Reply(result, {} if parcel is None else _left_by(job, lab.store))
    except BaseException as error:
        return Reply(Raised(portable(error)), {})


def _lab_of(bench: str, settings: LabSettings, *, shared: bool) -> Lab:
    global _lab  # noqa: PLW0603  # Ray keeps the process and hands it further tasks
    if _lab is None or _lab[0] != bench:
        if not shared:
            settings = dataclasses.replace(settings, store=Store.create(_scratch(settings)).path, files={})
        _lab = (bench, settings.make())
    return _lab[1]


def _scratch(settings: LabSettings) -> Path:
    """A folder of this machine for one bench's store; only its owner may write it, and who comes again finds it.

    Raises:
        KdzooError: it belongs to somebody else.
    """
    home = Path(tempfile.gettempdir()) / f"kdzoo-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid():
        raise KdzooError(f"{home} belongs to somebody else; set TMPDIR to a folder of your own on all machines")
    return home / content_hash([settings.host, str(settings.store)])


def _receive(parcel: Parcel, lab: Lab) -> None:
    unpack(parcel, lab.store)
    for name in parcel:
        folder, _, file = name.partition("/")
        if folder == FILES:
            lab.files[file.partition(".")[0]] = lab.store.path / name


def _left_by(job: Job, store: Store) -> Parcel:
    if not isinstance(job, RunCell):
        return pack_measures(store)
    parcel = pack_cell(job.cell, store)
    shutil.rmtree(store.folder(job.cell.id))
    return parcel
