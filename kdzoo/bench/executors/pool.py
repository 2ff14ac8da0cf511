"""A pool of persistent worker processes on this machine, each with its share of the processors and a GPU of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.context import SpawnProcess

from kdzoo.bench.executors.jobs import Crashed, Event, Job, JobEnded
from kdzoo.bench.executors.worker import LabSettings, Raised, work
from kdzoo.bench.lab import Expected
from kdzoo.engine.resources import usable_cores

_MOMENT = 1.0
_GRACE = 5.0
_DECODERS = 8


def threads_for(cores: int, processes: int) -> int:
    """Threads of each of so many processes, at least one, and at most what OMP_NUM_THREADS allows."""
    share = max(1, cores // max(1, processes))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(asked)) if asked.isdigit() and int(asked) else share


class LocalPool:
    """The :class:`~kdzoo.bench.executors.jobs.WorkerPool` of this machine.

    Processes are started when there is work for them, spawned and not forked, and stay. Each has a pipe of its own,
    so that one which is killed in the middle of a message harms no other.

    Args:
        settings: of the lab that each makes.
        workers: how many processes.
        gpus: as CUDA_VISIBLE_DEVICES names them; worker i gets the i-th, in turn where there are more workers.
    """

    def __init__(self, settings: LabSettings, workers: int, gpus: Sequence[str] = ()) -> None:
        self.settings, self.workers, self.gpus = settings, workers, gpus
        self.cores = usable_cores()
        self._workers: dict[int, _Worker] = {}
        self._expected = pickle.dumps({})

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def free(self) -> bool:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        return sum(worker.token is not None for worker in self._workers.values()) < self.workers

    def threads(self, jobs: int | None = None) -> int:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        return threads_for(self.cores, self.workers if jobs is None else min(jobs, self.workers))

    def expect(self, jobs: int) -> None:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        for slot in range(min(jobs, self.workers)):
            if slot not in self._workers:
                self._workers[slot] = self._spawn(slot)

    def share(self, expected: Mapping[str, Expected]) -> None:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        self._expected = pickle.dumps(dict(expected))

    def start(self, token: int, job: Job) -> None:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        idle = [slot for slot, worker in self._workers.items() if worker.token is None]
        slot = idle[0] if idle else next(each for each in range(self.workers) if each not in self._workers)
        if not idle:
            self._workers[slot] = self._spawn(slot)
        self._workers[slot].take(token, job, self._expected)

    def wait(self) -> list[Event]:
        """See :class:`~kdzoo.bench.executors.jobs.WorkerPool`."""
        workers = list(self._workers.items())
        connection.wait(
            [each for _, worker in workers for each in (worker.pipe, worker.process.sentinel)], timeout=_MOMENT
        )
        events: list[Event] = []
        for slot, worker in workers:
            alive = worker.process.is_alive()  # asked first, so that all events of a dead one are read
            events += worker.events()
            if not alive:
                del self._workers[slot]
                if worker.token is not None:
                    events.append(Crashed(worker.token, worker.exit_reason()))
                worker.stop()
        return events

    def resize(self, workers: int) -> None:
        """Let fewer or more processes work from now on; those that are too many end, and must be idle."""
        self.workers = workers
        for slot in [slot for slot in self._workers if slot >= workers]:
            self._workers.pop(slot).stop()

    def close(self) -> None:
        """End all processes, whatever they do."""
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            worker.pipe.close()
        for worker in workers:
            worker.stop()

    def _spawn(self, slot: int) -> _Worker:
        threads = str(self.threads())
        given = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self.gpus:
            given["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        decoders = max(1, min(_DECODERS, self.cores // self.workers))
        with _environment(given), _without_ctrl_c():
            return _Worker(self.settings, decoders)


class _Worker:
    """One process, its pipe, and the job that it does."""

    def __init__(self, settings: LabSettings, decoders: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        # Not a daemon: those may not start the processes that decode images.
        self.process: SpawnProcess = spawn.Process(target=work, args=(theirs, settings, decoders), name="kdzoo worker")
        self.process.start()
        theirs.close()
        self.token: int | None = None
        self._expects = b""

    def take(self, token: int, job: Job, expected: bytes) -> None:
        self.token = token
        # The next wait finds one that is dead.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(pickle.dumps((token, job, expected if expected is not self._expects else b"")))
        self._expects = expected

    def events(self) -> Iterator[Event]:
        """What it sent since the last call.

        Raises:
            BaseException: what ended it.
        """
        while (content := self._next()) is not None:
            message: Event | Raised = pickle.loads(content)
            if isinstance(message, Raised):
                raise message.error
            if isinstance(message, JobEnded):
                self.token = None
            yield message

    def _next(self) -> bytes | None:
        try:
            return self.pipe.recv_bytes() if self.pipe.poll() else None
        except (EOFError, OSError):  # it is dead, perhaps in the middle of a message
            return None

    def exit_reason(self) -> str:
        """How it ended, in words."""
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its worker process ended with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        often = ", probably because memory ran out" if name == "SIGKILL" else ""
        return f"its worker process was killed by {name}{often}"

    def stop(self) -> None:
        """End the process: a closed pipe makes it end, and it is killed where it does not."""
        self.pipe.close()
        self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


@contextlib.contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """Variables for a process that is started in the block: it must have them before it imports anything."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """A process that is started in the block does not hear Ctrl-C; this one hears it after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
