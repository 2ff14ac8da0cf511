"""A worker pool of Ray tasks: one for each job, wherever the cluster has room for it."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kdzoo.bench.executors.jobs import Crashed, Event, Job, JobEnded, ReadyTeacher, RunCell
from kdzoo.bench.executors.raytask import Parcel, Reply, pack_teacher, run_job, unpack
from kdzoo.bench.executors.worker import LabSettings, Raised
from kdzoo.bench.lab import Expected, Lab
from kdzoo.bench.results import find_done
from kdzoo.config import BenchConfig
from kdzoo.errors import KdzooError, UsageError
from kdzoo.needed import assistant_cells
from kdzoo.refs import DataRef, TeacherRef

_MOMENT = 0.5
_CONNECT_SECONDS = 10.0
_AHEAD = 256
"""Tasks that Ray is handed at a time: enough to make a cluster grow, few enough to hold all their locks."""


@dataclass
class _Task:
    """A job under way: its reference, and the lock of its cell where the store is not shared."""

    job: Job
    ref: Any
    lock: contextlib.ExitStack


class RayPool:
    """The :class:`~kdzoo.bench.executors.jobs.WorkerPool` of a cluster.

    Ray places the tasks and hands a process that is free the next one, with torch and data in memory. It is told not
    to try a task again by itself: whether a cell was lost with its machine or brought its process down decides how
    often it is worth it, and a new try is shown.

    Args:
        lab: of the driver.
        settings: of the tasks' labs.
        config: ``address``, ``shared_store``, ``cpus_per_cell``, ``gpus_per_cell`` and ``workers``.
        say: takes a line for the person.

    Raises:
        UsageError: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, lab: Lab, settings: LabSettings, config: BenchConfig, say: Callable[[str], None]) -> None:
        self.lab, self.shared, self.cpus = lab, config.shared_store, config.cpus_per_cell
        self.limit = min(config.workers, _AHEAD) if isinstance(config.workers, int) else _AHEAD
        self.ray, self._own = _connect(config.address)
        gpus = self._gpus(config)
        settings = settings.on("cuda" if gpus else "cpu")
        self.bench = uuid.uuid4().hex
        self._settings, self._expected = self.ray.put(settings), self.ray.put({})
        # Retries are the dispatcher's, who knows what a cell has cost; see the class.
        self._perform = self.ray.remote(num_cpus=self.cpus, num_gpus=gpus, max_retries=0)(run_job)
        self._queue = self._open_queue()
        self._parcels: dict[tuple[TeacherRef | None, DataRef, tuple[str, ...]], Any] = {}
        self._tasks: dict[int, _Task] = {}
        self._held: dict[int, RunCell] = {}
        self._events: list[Event] = []
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if warning := no_room(alive, self.cpus, gpus):
            say(warning)

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def free(self) -> bool:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        return len(self._tasks) + len(self._held) < self.limit

    def threads(self, jobs: int | None = None) -> int:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        return self.cpus

    def expect(self, jobs: int) -> None:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""

    def share(self, expected: Mapping[str, Expected]) -> None:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        self._expected = self.ray.put(dict(expected))

    def start(self, token: int, job: Job) -> None:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        lock = contextlib.ExitStack()
        if isinstance(job, RunCell) and not self.shared and not lock.enter_context(self.lab.store.claim(job.cell.id)):
            lock.close()
            if job.wait:
                self._held[token] = job
            else:
                self._events.append(JobEnded(token, None))
            return
        if not self.shared and isinstance(job, RunCell):
            self.lab.store.log("start", cell=job.cell.id)
        ref = self._perform.remote(
            self.bench, self._settings, self._expected, token, job, self._queue, self._parcel(job)
        )
        self._tasks[token] = _Task(job, ref, lock)

    def wait(self) -> list[Event]:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        events, self._events = self._events, []
        refs = {task.ref: token for token, task in self._tasks.items()}
        if refs:
            self.ray.wait(list(refs), timeout=0 if events else _MOMENT)
        elif not events:
            time.sleep(_MOMENT)
        events += [event for event in self._new_events() if event.token in self._tasks]
        if refs:
            ended, _ = self.ray.wait(list(refs), num_returns=len(refs), timeout=0)
            events += [self._end(refs[ref]) for ref in ended]
        for token, job in list(self._held.items()):
            self._ask_again(token, job)
        return events

    def _new_events(self) -> list[Event]:
        try:
            return [pickle.loads(event) for event in self._queue.get_nowait_batch(self._queue.size())]
        except (self.ray.exceptions.RayActorError, self.ray.util.queue.Empty):
            return []  # it moves to another node: what was in it is lost, and no more than a view of progress

    def close(self) -> None:
        """End all tasks; and the cluster, if it was started for this bench."""
        for task in self._tasks.values():
            self.ray.cancel(task.ref, force=True)
            task.lock.close()
        self._tasks.clear()
        self.ray.kill(self._queue.actor)
        if self._own:
            self.ray.shutdown()

    def _end(self, token: int) -> Event:
        task = self._tasks.pop(token)
        errors = self.ray.exceptions
        with task.lock:
            try:
                reply: Reply = self.ray.get(task.ref)
            except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
                return Crashed(token, f"its Ray worker died: {_first_sentence(error)}")
            except (errors.NodeDiedError, errors.ObjectLostError) as error:
                return Crashed(token, f"its Ray node was lost: {_first_sentence(error)}", machine=True)
            except errors.RayError as error:
                raise KdzooError(f"Ray could not run a cell: {_first_sentence(error)}") from error
            if isinstance(reply.result, Raised):
                raise reply.result.error
            if not self.shared:
                self._receive(task.job, reply)
        return JobEnded(token, reply.result)

    def _receive(self, job: Job, reply: Reply) -> None:
        store = self.lab.store
        unpack(reply.parcel, store)
        if isinstance(job, RunCell):
            store.clear(job.cell.id)
            store.log(store.record(job.cell.id).status, cell=job.cell.id)
        if isinstance(job, ReadyTeacher) or job.cell.teaches:
            self._parcels.clear()

    def _parcel(self, job: Job) -> Any:
        """A reference to what the job needs of the store, put once for all jobs that share a teacher."""
        if self.shared:
            return None
        key = (job.cell.teacher, job.cell.data, tuple(cell.id for cell in assistant_cells(job.cell)))
        if key not in self._parcels:
            parcel: Parcel = pack_teacher(job.cell, self.lab)
            self._parcels[key] = self.ray.put(parcel)
        return self._parcels[key]

    def _ask_again(self, token: int, job: RunCell) -> None:
        """Another bench runs this cell: its record may be there now, or it left the cell to us."""
        record = find_done(job.cell, self.lab, job.rerun)
        del self._held[token]
        if record:
            self._events.append(JobEnded(token, record))
        else:
            self.start(token, job)

    def _open_queue(self) -> Any:
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            self.ray.get_runtime_context().get_node_id(), soft=True
        )
        options = {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}
        return self.ray.util.queue.Queue(actor_options=options)

    def _gpus(self, config: BenchConfig) -> float:
        if config.gpus_per_cell is not None:
            return config.gpus_per_cell
        there = self.ray.cluster_resources().get("GPU", 0)
        return 1.0 if config.device == "cuda" or (config.device == "auto" and there) else 0.0


def no_room(nodes: Iterable[Mapping[str, float]], cpus: int, gpus: float) -> str:
    """A warning where no node could ever run a cell, as far as one sees now: an autoscaler may bring one.

    Args:
        nodes: the resources of each node, as Ray names them.
        cpus: that a cell asks for.
        gpus: likewise.
    """
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return ""
    return f"waiting for a node with {cpus} CPUs and {gpus:g} GPUs: the cluster has none for a cell now"


def _connect(address: str | None) -> tuple[Any, bool]:
    """Ray, connected, and whether this call connected it."""
    # A cluster that is started here for a bench has no reason to report to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util.queue
        import ray.util.scheduling_strategies
    except ImportError:
        raise UsageError("--executor ray needs Ray, which is not installed: pip install 'kdzoo[ray]'") from None
    if ray.is_initialized():
        return ray, False
    try:
        _check_address(address or os.environ.get("RAY_ADDRESS", ""))
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        where = f"at {address}" if address else "here"
        raise UsageError(
            f"no Ray cluster answers {where} ({_first_sentence(error)}); start a cluster with `ray start --head`, "
            f"or leave out --address"
        ) from None
    return ray, True


def _check_address(address: str) -> None:
    """Find out whether anybody listens at HOST:PORT; Ray itself would try for many minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


def _first_sentence(error: Exception) -> str:
    """What Ray says, without its advice, which takes several lines and sentences."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(". ")[0].rstrip(".")
