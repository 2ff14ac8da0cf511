"""Which executor a bench gets, and how many workers ``--workers auto`` means."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kdzoo.bench.executors.command import CommandExecutor
from kdzoo.bench.executors.dispatch import Dispatcher
from kdzoo.bench.executors.jobs import Crashed, GetReady, Job, JobEnded, Speed, TimeStudent
from kdzoo.bench.executors.local import Executor, InProcess
from kdzoo.bench.executors.pool import LocalPool, threads_for
from kdzoo.bench.executors.worker import LabSettings
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import BenchPlan
from kdzoo.bench.results import find_done
from kdzoo.cell import Cell
from kdzoo.config import BenchConfig
from kdzoo.engine.resources import free_memory
from kdzoo.errors import KdzooError

GAIN = 1.05
"""More workers than these few must train so much faster; otherwise the few are taken."""
_MEMORY = 2.0
"""A worker with its teacher and data may need so many times what the measurement needed."""


@contextmanager
def open_executor(
    plan: BenchPlan,
    lab: Lab,
    config: BenchConfig,
    plugins: Sequence[Path],
    say: Callable[[str], None],
    *,
    only_tune: bool = False,
) -> Iterator[Executor]:
    """The executor that a configuration asks for; its processes end with the block.

    Args:
        plan: what will run.
        lab: store, data, plugins, device of this process.
        config: ``executor``, ``workers`` and what goes with them.
        plugins: the files of ``--plugin``.
        say: takes a line for the person.
        only_tune: whether only teachers and studies will run.

    Raises:
        UsageError: the executor is not installed, or its cluster does not answer.
    """
    settings = LabSettings.of(lab, config, plugins)
    if config.executor == "ray":
        from kdzoo.bench.executors.ray import RayPool

        with RayPool(lab, settings, config, say) as pool:
            yield Dispatcher(lab, pool)
        return
    if config.executor == "command":
        yield CommandExecutor(lab, plan, config, plugins)
        return
    workers = config.workers
    if workers in (None, 1):
        yield InProcess(lab, config.lockstep)
        return
    with LocalPool(settings, 1 if workers == "auto" else int(workers or 1), visible_gpus(lab.device)) as pool:
        if workers == "auto":
            pool.resize(_choose(pool, plan, lab, config, say, only_tune=only_tune))
        if advice := idle_in_studies(plan, pool.workers):
            say(advice)
        if pool.workers > 1:
            yield Dispatcher(lab, pool)
            return
    # Behind the block: the process that measured is gone, with what it had in memory.
    yield InProcess(lab)


def idle_in_studies(plan: BenchPlan, workers: int) -> str:
    """Advice where the trials that are asked for together are fewer than the workers; empty where they are not."""
    together = sum(min(study.batch, study.length) for study in plan.studies)
    if not together or together >= workers:
        return ""
    return (
        f"{together} of {workers} workers can run a trial at a time; a larger --tune-batch uses more of them (and "
        f"makes other studies)"
    )


def visible_gpus(device: torch.device) -> list[str]:
    """The GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them; none where cells run elsewhere."""
    if device.type != "cuda":
        return []
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (named or [str(number) for number in range(torch.cuda.device_count())])[: torch.cuda.device_count()]


def _choose(
    pool: LocalPool, plan: BenchPlan, lab: Lab, config: BenchConfig, say: Callable[[str], None], *, only_tune: bool
) -> int:
    """How many workers to take, and why, in one line."""
    cells = [cell for cell in plan.cells if not cell.teaches and not only_tune]
    pending = [cell for cell in cells if find_done(cell, lab, config.rerun) is None]
    batches = sum(min(study.batch, study.length) for study in plan.studies)
    finals = 0 if only_tune else len(plan.studies) * plan.seeds
    most = max(len(pending), batches, finals)
    if most < 2:
        say(f"workers: 1, because {'one cell is' if most else 'no cells are'} left to run at a time")
        return 1
    if pool.cores < 2 and lab.device.type == "cpu":
        say("workers: 1, because there is only one CPU core")
        return 1
    if lab.device.type != "cpu":
        gpus = max(1, len(pool.gpus))
        say(f"workers: {min(gpus, most)}, one for each {lab.device.type} device")
        return min(gpus, most)
    macs = {(pair.student, pair.data): pair.student_plan.profile.macs for pair in plan.pairs}
    smallest = min([*pending, *plan.later(only_tune=only_tune)], key=lambda cell: macs[cell.student, cell.data])
    return fastest(pool, smallest, min(most, pool.cores), say)


def fastest(pool: LocalPool, cell: Cell, most: int, say: Callable[[str], None]) -> int:
    """Time a student with 1, 2, 4, ... processes that share the processors, until more bring nothing.

    Args:
        pool: its idle workers are used, and stay.
        cell: whose student.
        most: workers that could have something to do.
        say: takes the result.

    Returns:
        The fewest workers that train about as fast as any number of those that were tried.
    """
    speeds: dict[int, float] = {}
    why = ""
    for workers in sorted({*itertools.takewhile(lambda n: n < most, (2**power for power in itertools.count())), most}):
        pool.resize(workers)
        measured = _time(pool, cell, workers)
        speeds[workers] = sum(speed.images for speed in measured)
        if workers > 1 and speeds[workers] < GAIN * max(speed for tried, speed in speeds.items() if tried < workers):
            break
        if 2 * workers * _MEMORY * max(speed.memory for speed in measured) > free_memory():
            why = "; more would not fit in memory"
            break
    best = min(tried for tried, speed in speeds.items() if speed * GAIN >= max(speeds.values()))
    tried = ", ".join(f"{speed:,.0f} images/s with {_words(workers, pool)}" for workers, speed in speeds.items())
    say(f"workers: {best}, as {cell.student} trains at {tried}{why}")
    return best


def _words(workers: int, pool: LocalPool) -> str:
    threads = threads_for(pool.cores, workers)
    return f"{workers} x {threads} thread{'s' if threads > 1 else ''}"


def _time(pool: LocalPool, cell: Cell, workers: int) -> list[Speed]:
    # Ready first, all of them: one that is timed while another one starts would be timed alone.
    _everywhere(pool, GetReady(cell, pool.threads()), workers)
    return _everywhere(pool, TimeStudent(cell, pool.threads()), workers)


def _everywhere(pool: LocalPool, job: Job, workers: int) -> list[Any]:
    """The results of one job that every worker does at the same time."""
    for token in range(workers):
        pool.start(token, job)
    found: list[Any] = []
    while len(found) < workers:
        for event in pool.wait():
            if isinstance(event, Crashed):
                raise KdzooError(f"--workers auto could not measure: {event.reason}; give a number instead")
            if isinstance(event, JobEnded):
                found.append(event.result)
    return found
