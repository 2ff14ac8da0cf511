"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from kdzoo.testing.subject import Subject

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class Verdict:
    """How a check ended, and what it saw, with numbers where there are any."""

    status: Status
    text: str


@dataclass(frozen=True)
class Check:
    """One thing that is checked of a strategy.

    Args:
        name: how it is called on the command line, in tests and in the documentation.
        verifies: what holds where it passes.
        matters: what goes wrong where it does not.
        mend: what to change then.
        run: looks; an error that the strategy raises meanwhile is a failure too.
        needs: names of earlier checks without which this one says nothing: it is skipped where one of them failed.
    """

    name: str
    verifies: str
    matters: str
    mend: str
    run: Callable[[Subject], Verdict]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A check and how it ended on one strategy.

    Args:
        check: which.
        status: ``ok``, ``warn`` (worth a look, and no failure), ``fail``, or ``skip`` where it does not apply.
        text: what was seen.
        seconds: how long it took.
        blocked: whether it was skipped because a check that it needs failed.
    """

    check: Check
    status: Status
    text: str
    seconds: float = 0.0
    blocked: bool = False

    def explain(self) -> str:
        """What failed, why it matters and how to mend it, each on a line."""
        return f"{self.text}\nwhy it matters: {self.check.matters}\nhow to mend it: {self.check.mend}"


def passed(text: str) -> Verdict:
    """It holds."""
    return Verdict("ok", text)


def warned(text: str) -> Verdict:
    """It may be meant, and the author should know."""
    return Verdict("warn", text)


def failed(text: str) -> Verdict:
    """It does not hold."""
    return Verdict("fail", text)


def skipped(text: str) -> Verdict:
    """There is nothing to look at."""
    return Verdict("skip", text)
