"""A worker process: it makes the lab again from plain values, then does one job after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import queue
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from kdzoo import foreign
from kdzoo.bench.executors.jobs import Event, EventWatch, JobEnded, JobStarted, WorkerLine
from kdzoo.bench.lab import Lab
from kdzoo.cell import Cell
from kdzoo.config import BenchConfig
from kdzoo.data import decoding
from kdzoo.data.load import LoadedData, open_data
from kdzoo.errors import KdzooError, UsageError, os_reason
from kdzoo.models.folders import known_folders, remember_folders
from kdzoo.models.zoo import check_model
from kdzoo.refs import DataRef
from kdzoo.registry import Registry
from kdzoo.store import Store

_MADE_AGAIN = frozenset({"store", "registry", "device", "data", "files"})


@dataclass(frozen=True)
class PluginFile:
    """A file of ``--plugin``: where it lies, and its content, for a machine that does not have it."""

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: Path) -> PluginFile:
        """Read it as it is now.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            return cls(path.absolute(), path.read_bytes())
        except OSError as error:
            raise UsageError(f"--plugin {path} cannot be read: {os_reason(error)}") from None

    def here(self) -> Path:
        """A path on this machine with this content."""
        if self.path.is_file() and self.path.read_bytes() == self.content:
            return self.path
        path = Path(tempfile.mkdtemp(prefix="kdzoo-plugin-")) / self.path.name
        path.write_bytes(self.content)
        return path


@dataclass(frozen=True)
class LabSettings:
    """What a :class:`~kdzoo.bench.lab.Lab` is made of.

    Args:
        store: absolute path of the store.
        device: where cells are trained: ``cpu``, ``cuda`` or ``mps``.
        datasets: the datasets' names, as the configuration has them.
        data_dir: folder of the datasets' files.
        img_size: height and width of the images, or None for the dataset's own.
        folder: the current folder, from which relative names are read.
        files: teachers' weight files by their SHA-256.
        download: whether a missing dataset may be fetched.
        models: folders of models, by their names.
        plugins: the files of ``--plugin``.
        kdzoo: version of kdzoo.
        host: name of the leading machine.
        others: the other fields of the lab, handed over as they are.
    """

    store: Path
    device: str
    datasets: tuple[str, ...]
    data_dir: Path | None
    img_size: tuple[int, int] | None
    folder: Path
    files: Mapping[str, Path]
    plugins: tuple[PluginFile, ...]
    download: bool = False
    models: Mapping[str, Path] = field(default_factory=known_folders)
    kdzoo: str = field(default_factory=lambda: version("kdzoo"))
    host: str = field(default_factory=socket.gethostname)
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, lab: Lab, config: BenchConfig, plugins: Sequence[Path] = ()) -> LabSettings:
        """The settings of a lab that a bench uses."""
        kept = [each.name for each in dataclasses.fields(lab) if not each.name.startswith("_")]
        return cls(
            store=lab.store.path.absolute(),
            device=str(lab.device),
            datasets=config.dataset,
            data_dir=Path(config.data_dir).absolute() if config.data_dir else None,
            img_size=config.size(),
            folder=Path.cwd(),
            files={digest: path.absolute() for digest, path in lab.files.items()},
            plugins=tuple(PluginFile.read(path) for path in plugins),
            others={name: getattr(lab, name) for name in kept if name not in _MADE_AGAIN},
        )

    def on(self, device: str) -> LabSettings:
        """The same for another kind of device."""
        return dataclasses.replace(self, device=device)

    def make(self) -> Lab:
        """The lab, in the process that calls; its datasets are opened when they are first needed.

        Raises:
            KdzooError: this machine has another kdzoo, or a plugin that cannot be loaded.
        """
        if version("kdzoo") != self.kdzoo:
            raise KdzooError(
                f"{socket.gethostname()} has kdzoo {version('kdzoo')}, and the bench is of {self.kdzoo}; "
                "install the same version on all machines"
            )
        if self.folder.is_dir():
            os.chdir(self.folder)
        remember_folders(self.models)
        registry = Registry.load([plugin.here() for plugin in self.plugins])
        return Lab(
            store=Store(self.store),
            registry=registry,
            device=torch.device(self.device),
            data=Datasets(self, registry),
            files=dict(self.files),
            **self.others,
        )


class Datasets(dict[DataRef, LoadedData]):
    """The datasets of a bench, each opened when a cell first asks for it.

    Args:
        settings: which, and where they are.
        registry: finds them.
    """

    def __init__(self, settings: LabSettings, registry: Registry) -> None:
        super().__init__()
        self._settings, self._registry = settings, registry
        self._closed = list(settings.datasets)

    def __missing__(self, ref: DataRef) -> LoadedData:
        while self._closed:
            name = self._closed.pop(0)
            data = open_data(
                name,
                self._registry.find_dataset,
                data_dir=self._settings.data_dir,
                download=self._settings.download,
                img_size=self._settings.img_size,
            )
            self[data.ref] = data
            if data.ref == ref:
                return data
        here = next((one for one in self if one.fingerprint != ref.fingerprint), None)
        found = f"its fingerprint is {here.fingerprint}, not {ref.fingerprint}" if here else "it is split otherwise"
        raise KdzooError(
            f"the dataset {ref.name} on {socket.gethostname()} is not the dataset that the cell was planned with: "
            f"{found}; give all machines the same files, and do not change them during a bench"
        )


def check_cell(cell: Cell, lab: Lab) -> None:
    """Open the data of a cell, and find its strategy and its models.

    Raises:
        KdzooError: they are not here, or not what the cell was planned with.
    """
    host = socket.gethostname()
    try:
        entry = lab.registry.of(cell.strategy)
    except UsageError as error:
        raise KdzooError(
            f"{error}: install the plugin that brings the strategy of cell {cell.id}, or give its file by --plugin"
        ) from None
    if entry.value.revision != cell.strategy.revision:
        raise KdzooError(
            f"the strategy {cell.strategy.distribution}:{cell.strategy.name} on {host} has the revision "
            f"{entry.value.revision}, and the cell was planned with {cell.strategy.revision}; install the same "
            f"version on all machines, and do not change it during the bench"
        )
    for model in cell.models:
        check_model(model)
    _ = lab.data[cell.data]


_STEP_SECONDS = 0.1


@dataclass(frozen=True)
class Raised:
    """What ended the worker, where it could still tell."""

    error: BaseException


def work(pipe: Connection, settings: LabSettings, decoders: int) -> None:
    """Take jobs from a pipe and tell of them.

    The process ends when the other end of the pipe is closed, which the system does however the leading process
    ends, also in the middle of a job: what it writes is made to bear that.

    Args:
        pipe: gives (token, job, pickled news of the lab's ``expected``), and takes events.
        settings: of the lab.
        decoders: processes that may decode images for this one.
    """
    _leave_ctrl_c_to_the_leader()
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()

    def tell(message: Event | Raised) -> None:
        try:
            pipe.send_bytes(pickle.dumps(message))
        except OSError:
            _exit_now()

    try:
        decoding.WORKERS = decoders
        lab = settings.make()
        while True:
            # Read here and not where it arrives: two threads that import at once may find modules half made.
            token, job, expected = pickle.loads(inbox.get())
            if expected:
                lab.expected |= pickle.loads(expected)
            torch.set_num_threads(job.threads)
            check_cell(job.cell, lab)
            lab.say_with(partial(say, token, tell))
            tell(JobStarted(token))
            tell(JobEnded(token, job(lab, EventWatch(token, tell, _STEP_SECONDS))))
    except BaseException as error:
        tell(Raised(portable(error)))


def say(token: int, tell: Callable[[Event], None], line: str) -> None:
    """Tell of a line for the person."""
    tell(WorkerLine(token, line))


def _leave_ctrl_c_to_the_leader() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _listen(pipe: Connection, inbox: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(pipe.recv_bytes())
    _exit_now()


def _exit_now() -> None:
    """End at once, from whatever thread, with the processes that decode images for this one."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(0)


def portable(error: BaseException) -> Exception:
    """The error with its story as a note; the story alone where it does not pickle, or would end the leader."""
    story = foreign.story_of(error)
    try:
        pickle.loads(pickle.dumps(error))
        error.add_note(story)
    except BaseException:
        return RuntimeError(story)
    return error if isinstance(error, Exception) else RuntimeError(story)
