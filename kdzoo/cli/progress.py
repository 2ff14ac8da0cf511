"""Shows a bench as it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdzoo.cell import Cell
from kdzoo.foreign import MOST_OF_A_REASON, bounded, visible
from kdzoo.matrix import cell_title, values_text
from kdzoo.measures import OWN, Measure, Scores
from kdzoo.record import Record
from kdzoo.record_parts import Epoch

_QUIET_SECONDS = 20.0
_LINES = 8
"""Lines about students that a bench of many short cells prints, so that its board and they fit one screen."""

_LONG_SECONDS = 60.0
"""After so long without a line about a cell that ended, the next one gets it, however many there are."""

_SHOWN = 8
"""Cells of which the live view shows an epoch; of more it tells the number."""


@contextmanager
def make_report(cells: Sequence[Cell], later: Sequence[Cell] = (), *, counted: bool = True) -> Iterator[PlainReport]:
    """The report for where standard error goes.

    Args:
        cells: what will run.
        later: stand-ins for what will run beside them, each as long as what it stands for.
        counted: whether these are all; else no number of cells and no time that is left is told.
    """
    console = Console(stderr=True)
    report: PlainReport
    if console.is_terminal:
        report = live = LiveReport(cells, console, later, counted=counted)
        with Live(get_renderable=live.view, console=console, refresh_per_second=4, transient=True):
            yield report
    else:
        report = PlainReport(cells, console, later, counted=counted)
        yield report
    if report.found:
        report.say(f"{report.found}{f' of {report.total}' if counted else ''} cells were already done")


class Running:
    """A cell under way; the :class:`~kdzoo.engine.train.Watch` of its training."""

    def __init__(self, cell: Cell, report: PlainReport) -> None:
        self.cell, self._report = cell, report
        self.line: Epoch | None = None
        self.epochs = cell.recipe.epochs
        self.number, self.done_steps, self.steps = 0, 0, 1
        self.began = self.spoke = time.monotonic()
        self.ran = False

    def step(self, epoch: int, done: int, steps: int) -> None:
        """A step is done."""
        self.number, self.done_steps, self.steps = epoch, done, steps
        self.ran = True

    def epoch(self, line: Epoch, epochs: int) -> None:
        """An epoch is done."""
        self.line, self.epochs = line, epochs
        self.number, self.done_steps = line.epoch + 1, 0
        self.ran = True
        self._report.pace.epoch(self.cell)
        self._report.on_epoch(self)


class PlainReport:
    """One line for each cell that ends, and one now and then while a long one runs."""

    def __init__(
        self, cells: Sequence[Cell], console: Console, later: Sequence[Cell] = (), *, counted: bool = True
    ) -> None:
        self.console, self.counted = console, counted
        self.total = len(cells) + len(later)
        self.ended = self.found = 0
        self.pace = Pace(cells, later)
        self._planned = {cell.id for cell in cells}
        self.running: dict[str, Running] = {}
        self._opened = datetime.now(UTC).isoformat(timespec="microseconds")
        self._told, self._told_at = 0, time.monotonic()

    def cell(self, cell: Cell) -> Running:
        """A cell is about to run, or to be found done."""
        self.pace.begin(cell)
        self.running[cell.id] = Running(cell, self)
        return self.running[cell.id]

    def name(self, cell: Cell) -> str:
        """A cell in words; a winner of tuning with its values, since the row of the defaults has the same title."""
        tuned = self.counted and cell.kind == "student" and cell.id not in self._planned
        return f"{cell_title(cell)}, tuned {values_text(cell)}" if tuned else cell_title(cell)

    def passed(self, cell: Cell) -> None:
        """Another process runs this cell, which is not shown meanwhile."""
        self.pace.pause(cell)
        self.running.pop(cell.id, None)

    def waiting(self, cell: Cell) -> None:
        """Another process runs this cell."""
        self.say(f"waiting for another bench that runs {cell_title(cell)}")

    def lost(self, cell: Cell, reason: str) -> None:
        """The process that ran a cell died."""
        self.say(f"{cell_title(cell)}: {reason}; retrying")

    def on_epoch(self, cell: Running) -> None:
        """Speak if nothing was said of a cell for a while."""
        if cell.line and time.monotonic() - cell.spoke > _QUIET_SECONDS:
            cell.spoke = time.monotonic()
            self.say(f"  {self.name(cell.cell)}: epoch {cell.number}/{cell.epochs}, {_line_text(cell.line)}")

    def done(self, record: Record) -> None:
        """A cell has its record; say so, unless it was found done, or is one of many short ones that went well."""
        self.ended += 1
        ran = self.running.pop(record.id, None) or Running(record.cell, self)
        self.pace.end(record.cell)
        before = record.ended < self._opened
        self.found += before and record.status != "failed"
        if record.status == "failed" or (ran.ran and self._tells(record.cell)):
            result = self._result(record, ran, "FAILED before" if before else "FAILED")
            place = f"{self.ended}/{self.total}" if self.counted else f"{self.ended}"
            self.say(f"[{place}] {self.name(record.cell)}: {result}")

    def _tells(self, cell: Cell) -> bool:
        """Whether a cell that went well has a line: a student has one if no more than :data:`_LINES` of them are spread
        over the bench, or if none was printed for long."""
        now = time.monotonic()
        share = self.ended * _LINES // max(self.total, 1)
        if cell.kind == "student" and share == self._told and now - self._told_at < _LONG_SECONDS:
            return False
        self._told, self._told_at = share, now
        return True

    def _result(self, record: Record, ran: Running, failed: str) -> str:
        values = values_text(record.cell) if record.cell.only_selects else ""
        tried = f"{values}: " if values else ""
        if record.status == "failed":
            return f"{tried}{failed}: {record.reason}"
        left = self.left()
        took = _duration(time.monotonic() - ran.began) + (f", about {_duration(left)} left" if left else "")
        if record.cell.only_selects:
            tune = f"{_score(record, record.tune)} on tune" if record.tune else f"pruned ({record.reason})"
            return f"{tried}{tune}, {took}"
        return f"{_score(record, record.test)} on test, {took}" if record.test else took

    def left(self) -> float | None:
        """Seconds to go, as far as that is known."""
        return self.pace.left() if self.counted else None

    def say(self, text: str) -> None:
        """One plain line."""
        text = visible(bounded(text, MOST_OF_A_REASON))
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveReport(PlainReport):
    """The same lines, and under them a view of what is running."""

    def on_epoch(self, cell: Running) -> None:
        """The view says it."""

    def view(self) -> Any:
        """What the terminal shows now."""
        left = self.left()
        top = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self.total, completed=self.ended, width=30) if self.counted else ""
        top.add_row(
            Text("cells", style="bold"),
            bar,
            f"{self.ended} done" + (f", {self.total - self.ended} left" if self.counted else ""),
            Text(f"about {_duration(left)} left" if left else "", style="dim"),
        )
        running = list(self.running.values())  # another thread draws than reports
        if not running or (self.counted and self.ended == self.total):
            return top
        shown = running if len(running) <= _SHOWN else running[: _SHOWN - 1]
        more = [Text(f"      and {len(running) - len(shown)} more", style="dim")] if len(shown) < len(running) else []
        return Group(top, *(part for cell in shown for part in _cell_view(cell)), *more)


def _cell_view(cell: Running) -> tuple[Any, Any]:
    share = cell.number + cell.done_steps / max(cell.steps, 1)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text("epoch", style="bold"),
        ProgressBar(total=cell.epochs, completed=share, width=30),
        f"{min(cell.number + 1, cell.epochs)}/{cell.epochs}",
        Text(cell_title(cell.cell), style="cyan"),
    )
    return row, Text("      " + (_line_text(cell.line) if cell.line else ""), style="dim")


_Kind: TypeAlias = tuple[bool, str]


class Pace:
    """Guesses the time that is left from the mean time of an epoch, kept for each kind of network apart.

    Args:
        cells: what will run.
        later: stand-ins for cells that are not known yet.
    """

    def __init__(self, cells: Sequence[Cell], later: Sequence[Cell] = ()) -> None:
        self._left = {cell.id: (_kind(cell), cell.recipe.epochs) for cell in cells}
        self._later = Counter((_kind(cell), cell.recipe.epochs) for cell in later)
        self._times: dict[_Kind, list[float]] = defaultdict(list)
        self._last: dict[str, float] = {}
        self._at_once = 1

    def begin(self, cell: Cell) -> None:
        """A cell is about to run."""
        self._last[cell.id] = time.monotonic()
        self._at_once = max(self._at_once, len(self._last))

    def epoch(self, cell: Cell) -> None:
        """An epoch of a cell is done."""
        now = time.monotonic()
        kind, epochs = self._admit(cell)
        self._times[kind].append(now - self._last[cell.id])
        self._last[cell.id] = now
        self._left[cell.id] = (kind, epochs - 1)

    def pause(self, cell: Cell) -> None:
        """A cell does not run now."""
        self._last.pop(cell.id, None)

    def end(self, cell: Cell) -> None:
        """A cell needs no more time."""
        kind, _ = self._admit(cell)
        self._left[cell.id] = (kind, 0)
        self.pause(cell)

    def left(self) -> float | None:
        """Seconds to go, or None before anything was timed."""
        means = {kind: sum(times) / len(times) for kind, times in self._times.items()}
        if not means:
            return None
        overall = sum(means.values()) / len(means)
        known = sum(epochs * means.get(kind, overall) for kind, epochs in self._left.values())
        later = sum(count * epochs * means.get(kind, overall) for (kind, epochs), count in self._later.items())
        cells = sum(epochs > 0 for _, epochs in self._left.values()) + self._later.total()
        return (known + later) / max(1, min(self._at_once, cells))

    def _admit(self, cell: Cell) -> tuple[_Kind, int]:
        """What is left of a cell; one that was not known before takes the place of a stand-in."""
        place = (_kind(cell), cell.recipe.epochs)
        if cell.id not in self._left:
            self._later[place] = max(0, self._later[place] - 1)
            self._left[cell.id] = place
        return self._left[cell.id]


def _kind(cell: Cell) -> _Kind:
    return cell.kind == "teacher", str(cell.student)


def _score(record: Record, scores: Scores) -> str:
    return record.main.text(scores[record.main.name])


def _line_text(line: Epoch) -> str:
    terms = ", ".join(f"{name} {value:.4g}" for name, value in line.terms.items())
    measured = "".join(
        f", tune {OWN.get(name, Measure(name=name)).text(value)}" for name, value in (line.tune or {}).items()
    )
    return f"{line.phase}: {terms or 'no terms'}{measured}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
