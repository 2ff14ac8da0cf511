"""Runs each cell by a command, such as ``sbatch --wait --wrap {command}``: ``kdzoo run-cell`` in a job of a cluster."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kdzoo import foreign
from kdzoo.bench.events import Reporter
from kdzoo.bench.lab import Lab
from kdzoo.bench.plan import BenchPlan
from kdzoo.bench.results import find_done
from kdzoo.bench.run import run_cell
from kdzoo.cell import Cell
from kdzoo.config import BenchConfig, Rerun
from kdzoo.engine.course import Stop, Unwatched
from kdzoo.errors import UsageError, os_reason
from kdzoo.matrix import cell_title
from kdzoo.models.folders import known_folders
from kdzoo.needed import in_stages, trainings
from kdzoo.record import Record

_PAUSE = 0.2
_MOST = 256
"""Commands that run at a time, unless ``--workers`` says otherwise."""
_FORWARDED = (
    *("rerun", "device", "eval_every", "compile", "trust_teacher", "bank", "bank_budget", "bank_dtype", "log_with"),
)
"""Keys of the configuration that ``kdzoo run-cell`` takes as they are."""


class CommandExecutor:
    """The :class:`~kdzoo.bench.executors.local.Executor` of commands, which a cluster's scheduler may take.

    A command may wait for its cell, and then its exit code says what came of it; or it may only submit the cell, and
    then the record is waited for. All machines must see the store under the same path.

    Args:
        lab: store, data, plugins of this process.
        plan: the bench.
        config: ``command``, ``workers`` and the options of the cells.
        plugins: the files of ``--plugin``.
    """

    def __init__(self, lab: Lab, plan: BenchPlan, config: BenchConfig, plugins: Sequence[Path]) -> None:
        self.lab, self.config, self.plugins = lab, config, plugins
        self.limit = config.workers if isinstance(config.workers, int) else _MOST
        names = config.dataset if len(config.dataset) == len(plan.data) else ()
        self._datasets = {ref: name for ref, name in zip(plan.data, names, strict=False) if ref.name != name}

    def run(
        self, cells: Sequence[Cell], report: Reporter, rerun: Rerun, stops: Mapping[str, Stop] | None = None
    ) -> list[Record]:
        """See :class:`~kdzoo.bench.executors.local.Executor`.

        Raises:
            UsageError: a command cannot be started, or ended without a record of its cell.
        """
        if stops:
            raise UsageError(
                "--executor command runs each cell separately, but a pruner compares trials: leave the pruner out"
            )
        for cell in cells:
            self.lab.store.plan(cell)
        records: dict[str, Record] = {}
        for stage in in_stages(cells):  # teachers before students
            self._finish(stage, report, rerun, records)
        return [records[cell.id] for cell in cells]

    def command(self, cell: Cell) -> list[str]:
        """The words of the ``kdzoo run-cell`` that trains a cell."""
        words = [sys.executable, "-m", "kdzoo", "run-cell", cell.id, "--quiet"]
        words += ["--out", str(self.lab.store.path.absolute())]
        for name in _FORWARDED:
            value = getattr(self.config, name)
            if value != BenchConfig.model_fields[name].default:
                flag = "--" + name.replace("_", "-")
                words += [flag] if value is True else [flag, ",".join(value) if name == "log_with" else str(value)]
        if self.config.data_dir:
            words += ["--data-dir", str(Path(self.config.data_dir).absolute())]
        for path in self.plugins:
            words += ["--plugin", str(path.absolute())]
        if cell.data in self._datasets:
            words += ["--dataset", self._datasets[cell.data]]
        if cell.teacher and cell.teacher.weights == "file":
            words += ["--teacher-weights", str(self.lab.files[cell.teacher.digest or ""].absolute())]
        folders = known_folders()
        for model in cell.models:
            if model.name in folders:
                words += ["--model", str(folders[model.name])]
        return words

    def _finish(self, cells: Sequence[Cell], report: Reporter, rerun: Rerun, records: dict[str, Record]) -> None:
        """Run cells that do not wait for each other, until each has its record."""

        def found(cell: Cell) -> bool:
            record = find_done(cell, self.lab, rerun)
            if record is not None:
                records[cell.id] = record
                report.cell(cell)
                report.done(record)
            return record is not None

        left = [cell for cell in cells if not found(cell)]
        for cell in [cell for cell in left if self._teacher_failed(cell)]:
            # The cell fails for the same reason, which its record says.
            left.remove(cell)
            record = run_cell(cell, self.lab, Unwatched(), rerun, wait=True)
            assert record is not None  # it waits
            records[cell.id] = record
            report.done(record)
        jobs = {cell.id: filled(self.config.command or "", shlex.join(self.command(cell)), cell.id) for cell in left}
        by_id = {cell.id: cell for cell in left}
        faults = run_commands(jobs, self.limit, lambda cell_id: found(by_id[cell_id]), self._is_held, self.lab.say_once)
        if faults:
            cell_id, fault = next(iter(faults.items()))
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise UsageError(
                f"the command of {cell_title(by_id[cell_id])}{more} {fault}, and left no record; run the same command "
                "again to resume"
            )

    def _teacher_failed(self, cell: Cell) -> bool:
        found = (self.lab.store.find_record(training.id) for training in trainings(cell))
        return any(record is not None and record.status == "failed" for record in found)

    def _is_held(self, cell_id: str) -> bool:
        with self.lab.store.claim(cell_id) as mine:
            return not mine


def filled(template: str, command: str, cell_id: str) -> list[str]:
    """The words of a template, with ``{command}`` as a line for a shell, and ``{cell}`` as the cell's id.

    Example:
        >>> filled("sbatch --wait -J {cell} --wrap {command}", "kdzoo run-cell 3f2a --out 'my runs'", "3f2a")
        ['sbatch', '--wait', '-J', '3f2a', '--wrap', "kdzoo run-cell 3f2a --out 'my runs'"]
    """
    return [word.replace("{cell}", cell_id).replace("{command}", command) for word in shlex.split(template)]


@dataclass
class _Running:
    process: subprocess.Popen[bytes]
    errors: IO[bytes] = field(repr=False)

    def fault(self) -> str:
        """How the command ended, with the last line that it wrote to standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        code = self.process.returncode
        how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
        return f"{how} ({foreign.line(lines[-1])})" if lines else how


def run_commands(
    jobs: Mapping[str, Sequence[str]],
    limit: int,
    is_done: Callable[[str], bool],
    is_held: Callable[[str], bool],
    say: Callable[[str], None],
) -> dict[str, str]:
    """Run commands side by side until each job is done; a command that ends well before its job is waited for.

    Args:
        jobs: name -> the words of its command.
        limit: commands that run at a time.
        is_done: whether a job has its result now; asked until it has.
        is_held: whether a process works at a job, whatever its command said.
        say: takes a line for the person; often the same.

    Returns:
        Name -> how the command ended, of each job that has no result and will have none.

    Raises:
        UsageError: a command cannot be started.
    """
    queue, running, submitted = deque(jobs), dict[str, _Running](), set[str]()
    faults: dict[str, str] = {}
    try:
        while queue or running or submitted:
            while queue and len(running) < limit:
                name = queue.popleft()
                running[name] = _start(jobs[name])
            for name in [name for name, one in running.items() if one.process.poll() is not None]:
                one = running.pop(name)
                with one.errors:
                    if is_done(name):
                        continue
                    if one.process.returncode == 0 or is_held(name):
                        submitted.add(name)
                    else:
                        faults[name] = one.fault()
            if submitted and not running and not queue:
                say(
                    "all jobs are submitted, waiting for their records; a lost job is only noticed if the command "
                    "waits for it (sbatch --wait, bsub -K)"
                )
            submitted = {name for name in submitted if not is_done(name)}
            time.sleep(_PAUSE)
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            one.process.wait()
            one.errors.close()
    return faults


def _start(words: Sequence[str]) -> _Running:
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # it is closed when the command has ended
    try:
        return _Running(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors), errors)
    except OSError as error:
        errors.close()
        reason = os_reason(error)
        raise UsageError(f"--executor command: {words[0]} cannot be started: {reason}") from None
