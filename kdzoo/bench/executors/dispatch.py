"""Hands the cells of a bench to a pool of workers: in which order, what is retried, and what fails."""

from __future__ import annotations

import itertools
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdzoo.bench.crashes import OWN_LIMIT, UNEXPLAINED_LIMIT
from kdzoo.bench.events import Reporter
from kdzoo.bench.executors.jobs import (
    Crashed,
    EpochDone,
    Event,
    Job,
    JobEnded,
    JobStarted,
    ReadyTeacher,
    RunCell,
    StepDone,
    WorkerLine,
    WorkerPool,
)
from kdzoo.bench.lab import Lab
from kdzoo.bench.results import find_done, record_crash
from kdzoo.cell import Cell
from kdzoo.config import Rerun
from kdzoo.engine.course import Stop, Watch
from kdzoo.needed import in_stages
from kdzoo.record import Record

CRASH_LIMIT = OWN_LIMIT
"""Crashes of workers that run a cell before it is recorded as failed."""
_NUMBER = re.compile(r"[\d.,]+")
NODE_LOSSES = UNEXPLAINED_LIMIT
"""Machines lost while they run a cell before it is recorded as failed."""


class Dispatcher:
    """The :class:`~kdzoo.bench.executors.local.Executor` of a pool of workers.

    Teachers are trained first, then each is measured once, then the students run; so no worker waits for what
    another one makes. A cell whose worker crashes resumes from its last checkpoint in another worker, once.

    Args:
        lab: store, data, plugins, device of the leading process.
        pool: the workers.
    """

    def __init__(self, lab: Lab, pool: WorkerPool) -> None:
        self.lab, self.pool = lab, pool
        self._tokens = itertools.count()
        self._said: set[str] = set()
        self._ready: set[object] = set()

    def run(
        self, cells: Sequence[Cell], report: Reporter, rerun: Rerun, stops: Mapping[str, Stop] | None = None
    ) -> list[Record]:
        """See :class:`~kdzoo.bench.executors.local.Executor`."""
        stops = stops or {}
        for cell in cells:
            self.lab.store.plan(cell)
        bench = _Round(self.lab, self.pool, report, rerun, self._tokens, self._said)
        stages = [(stage[0], bench.find(stage)) for stage in in_stages(cells)]
        self.pool.expect(max((len(stage) for _, stage in stages), default=0))
        for one, stage in stages:
            if one.kind != "teacher":
                self._ready_teachers(stage, bench)
            threads = self.pool.threads(len(stage)) if one.teaches else self.pool.threads()
            bench.finish([RunCell(cell, threads, rerun, stops.get(cell.id)) for cell in stage])
        return [bench.records[cell.id] for cell in cells]

    def _ready_teachers(self, cells: Sequence[Cell], bench: _Round) -> None:
        """Measure the teachers of some cells, those that were not yet."""
        taught = {
            (cell.teacher, cell.data, cell.recipe.augment, cell.recipe.precision): cell
            for cell in cells
            if cell.teacher
        }
        self.pool.share(self.lab.expected)
        unready = [cell for key, cell in taught.items() if key not in self._ready]
        bench.finish([ReadyTeacher(cell, self.pool.threads(len(unready))) for cell in unready])
        self._ready |= taught.keys()


@dataclass
class _Round:
    lab: Lab
    pool: WorkerPool
    report: Reporter
    rerun: Rerun
    tokens: Iterator[int]
    said: set[str]
    records: dict[str, Record] = field(default_factory=dict)
    held: list[RunCell] = field(default_factory=list)
    running: dict[int, Job] = field(default_factory=dict)
    watches: dict[int, Watch] = field(default_factory=dict)
    crashes: Counter[tuple[type[Job], str, bool]] = field(default_factory=Counter)

    def find(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that must run; the others have their records now."""
        left = []
        for cell in cells:
            record = find_done(cell, self.lab, self.rerun)
            if record is None:
                left.append(cell)
            else:
                self.report.cell(cell)
                self._done(record)
        return left

    def finish(self, jobs: Iterable[Job]) -> None:
        """Have jobs done, all of them."""
        queue = deque(jobs)
        while queue or self.running or self.held:
            if not queue and not self.running:
                for job in self.held:
                    self.report.waiting(job.cell)
                queue.extend(replace(job, wait=True) for job in self.held)
                self.held.clear()
            while queue and self.pool.free:
                token = next(self.tokens)
                self.running[token] = queue.popleft()
                self.pool.start(token, self.running[token])
            for event in self.pool.wait():
                again = self._take(event)
                if again is not None:
                    queue.appendleft(again)

    def _take(self, event: Event) -> Job | None:
        """Note what happened; gives the job that must be done again, if there is one."""
        job = self.running[event.token]
        match event:
            case JobStarted():
                if isinstance(job, RunCell):
                    self._watch(event.token)
            case EpochDone():
                self._watch(event.token).epoch(event.line, event.epochs)
            case JobEnded():
                if isinstance(event.result, Record):
                    self._watch(event.token)
                self._end(event.token)
                if isinstance(event.result, Record):
                    self._done(event.result)
                elif isinstance(job, RunCell):
                    self.report.passed(job.cell)
                    self.held.append(job)
            case Crashed():
                self._end(event.token)
                return self._retry_or_fail(job, event)
            case WorkerLine():
                self._say(event.line, job)
            case StepDone():
                self._watch(event.token).step(event.epoch, event.done, event.steps)
        return None

    def _watch(self, token: int) -> Watch:
        """Who watches a job, also where word of its beginning was lost or is late."""
        if token not in self.watches:
            self.watches[token] = self.report.cell(self.running[token].cell)
        return self.watches[token]

    def _say(self, line: str, job: Job) -> None:
        """Say a line once. Of cells, those that differ in numbers alone are one: each worker measures for itself."""
        alike = _NUMBER.sub("", line)
        if line not in self.said and not (isinstance(job, RunCell) and alike in self.said):
            self.lab.say(line)
        self.said |= {line, alike}

    def _end(self, token: int) -> None:
        del self.running[token]
        self.watches.pop(token, None)

    def _done(self, record: Record) -> None:
        self.records[record.id] = record
        self.report.done(record)

    def _retry_or_fail(self, job: Job, crash: Crashed) -> Job | None:
        """The job to run again after a crash; None where it failed too often, which its record then says.

        A teacher that cannot be measured fails the cells that need it.
        """
        key = (type(job), job.cell.id, crash.machine)
        self.crashes[key] += 1
        if self.crashes[key] < (NODE_LOSSES if crash.machine else CRASH_LIMIT):
            self.report.lost(job.cell, crash.reason)
            # Its lock may outlive it for a moment, in a process that it started.
            return replace(job, wait=True) if isinstance(job, RunCell) else job
        if isinstance(job, RunCell):
            count = self.crashes[key]
            reason = f"tried {count} times: {crash.reason}"
            self._done(record_crash(job.cell, self.lab, reason, 0 if crash.machine else count))
        return None
