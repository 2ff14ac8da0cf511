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
from kdzoo.matrix import title, values_text
from kdzoo.record import Epoch, Record

_QUIET_SECONDS = 20.0


@contextmanager
def make_report(cells: Sequence[Cell], later: Sequence[Cell] = ()) -> Iterator[PlainReport]:
    """The report for where standard error goes.

    Args:
        cells: what will run.
        later: stand-ins for what will run beside them, each as long as what it stands for.
    """
    console = Console(stderr=True)
    report: PlainReport
    if console.is_terminal:
        report = live = LiveReport(cells, console, later)
        with Live(get_renderable=live.view, console=console, refresh_per_second=4, transient=True):
            yield report
    else:
        report = PlainReport(cells, console, later)
        yield report
    if report.found:
        report.say(f"{report.found} of {report.total} cells were done before")


class PlainReport:
    """One line for each cell that ends, and one now and then while a long one runs."""

    def __init__(self, cells: Sequence[Cell], console: Console, later: Sequence[Cell] = ()) -> None:
        self.console = console
        self.total = len(cells) + len(later)
        self.ended = self.found = 0
        self.pace = Pace(cells, later)
        self._began = self._spoke = time.monotonic()
        self._opened = datetime.now(UTC).isoformat(timespec="microseconds")
        self._ran = False

    def cell(self, cell: Cell) -> PlainReport:
        """A cell is about to run, or to be found done."""
        self.running = cell
        self.line: Epoch | None = None
        self.epochs = cell.recipe.epochs
        self.done_steps, self.steps, self.number = 0, 1, 0
        self._began = time.monotonic()
        self._ran = False
        return self

    def waiting(self, cell: Cell) -> None:
        """Another process runs this cell."""
        self.say(f"waiting for another bench that runs {title(cell)}")

    def step(self, epoch: int, done: int, steps: int) -> None:
        """A step of the running cell is done."""
        self.number, self.done_steps, self.steps = epoch, done, steps
        self._ran = True

    def epoch(self, line: Epoch, epochs: int) -> None:
        """An epoch of the running cell is done."""
        self.line, self.epochs = line, epochs
        self.number, self.done_steps = line.epoch + 1, 0
        self._ran = True
        self.pace.epoch(self.running)
        self.on_epoch()

    def on_epoch(self) -> None:
        """Speak if nothing was said for a while."""
        if self.line and time.monotonic() - self._spoke > _QUIET_SECONDS:
            self.say(f"  {title(self.running)}: epoch {self.number}/{self.epochs}, {_line_text(self.line)}")

    def done(self, record: Record) -> None:
        """A cell has its record; say so, unless it was found done."""
        self.ended += 1
        self.pace.end(record.cell)
        before = record.ended < self._opened
        self.found += before and record.status != "failed"
        if self._ran or record.status == "failed":
            result = self._result(record, "FAILED before" if before else "FAILED")
            self.say(f"[{self.ended}/{self.total}] {title(record.cell)}: {result}")

    def _result(self, record: Record, failed: str) -> str:
        if record.status == "failed":
            return f"{failed}: {record.reason}"
        left = self.pace.left()
        took = _duration(time.monotonic() - self._began) + (f", about {_duration(left)} left" if left else "")
        if record.cell.kind == "trial":
            tune = f"{record.tune.top1:.2f}% on tune" if record.tune else f"pruned ({record.reason})"
            return f"{values_text(record.cell)}: {tune}, {took}"
        return f"{record.test.top1:.2f}% on test, {took}" if record.test else took

    def say(self, text: str) -> None:
        """One plain line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._spoke = time.monotonic()


class LiveReport(PlainReport):
    """The same lines, and under them a view of what is running."""

    def on_epoch(self) -> None:
        """The view says it."""

    def view(self) -> Any:
        """What the terminal shows now."""
        left = self.pace.left()
        top = Table.grid(padding=(0, 1))
        top.add_row(
            Text("cells", style="bold"),
            ProgressBar(total=self.total, completed=self.ended, width=30),
            f"{self.ended} done, {self.total - self.ended} left",
            Text(f"about {_duration(left)} left" if left else "", style="dim"),
        )
        if not hasattr(self, "running") or self.ended == self.total:
            return top
        share = self.number + self.done_steps / max(self.steps, 1)
        below = Table.grid(padding=(0, 1))
        below.add_row(
            Text("epoch", style="bold"),
            ProgressBar(total=self.epochs, completed=share, width=30),
            f"{min(self.number + 1, self.epochs)}/{self.epochs}",
            Text(title(self.running), style="cyan"),
        )
        return Group(top, below, Text("      " + (_line_text(self.line) if self.line else ""), style="dim"))


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
        self._last = time.monotonic()

    def epoch(self, cell: Cell) -> None:
        """An epoch of a cell is done."""
        now = time.monotonic()
        kind, epochs = self._admit(cell)
        self._times[kind].append(now - self._last)
        self._last = now
        self._left[cell.id] = (kind, epochs - 1)

    def end(self, cell: Cell) -> None:
        """A cell needs no more time."""
        kind, _ = self._admit(cell)
        self._left[cell.id] = (kind, 0)
        self._last = time.monotonic()

    def left(self) -> float | None:
        """Seconds to go, or None before anything was timed."""
        means = {kind: sum(times) / len(times) for kind, times in self._times.items()}
        if not means:
            return None
        overall = sum(means.values()) / len(means)
        known = sum(epochs * means.get(kind, overall) for kind, epochs in self._left.values())
        return known + sum(count * epochs * means.get(kind, overall) for (kind, epochs), count in self._later.items())

    def _admit(self, cell: Cell) -> tuple[_Kind, int]:
        """What is left of a cell; one that was not known before takes the place of a stand-in."""
        place = (_kind(cell), cell.recipe.epochs)
        if cell.id not in self._left:
            self._later[place] = max(0, self._later[place] - 1)
            self._left[cell.id] = place
        return self._left[cell.id]


def _kind(cell: Cell) -> _Kind:
    return cell.kind == "teacher", str(cell.student)


def _line_text(line: Epoch) -> str:
    terms = ", ".join(f"{name} {value:.4g}" for name, value in line.terms.items())
    return f"{line.phase}: {terms or 'no terms'}, tune {line.tune_top1:.2f}%"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
