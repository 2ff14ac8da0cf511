"""What a check is, what it finds, and how one is run."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import torch

from kdzoo import foreign
from kdzoo.combination import parts_of
from kdzoo.declarations import alone
from kdzoo.errors import PairError, UsageError, raise_if_interrupted
from kdzoo.process_state import ProcessState
from kdzoo.registry import Registered
from kdzoo.strategy import Strategy
from kdzoo.testing.kit.subject import Subject

Status = Literal["ok", "warn", "fail", "skip"]


@dataclass(frozen=True)
class CheckResult:
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
    run: Callable[[Subject], CheckResult]
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
        return f"{self.text}\nwhy it matters: {self.check.matters}\nhow to fix it: {self.check.mend}"


def passed(text: str) -> CheckResult:
    """It holds."""
    return CheckResult("ok", text)


def warned(text: str) -> CheckResult:
    """It may be meant, and the author should know."""
    return CheckResult("warn", text)


def failed(text: str) -> CheckResult:
    """It does not hold."""
    return CheckResult("fail", text)


def skipped(text: str) -> CheckResult:
    """There is nothing to look at."""
    return CheckResult("skip", text)


def make_subject(
    strategy: type[Strategy] | Registered[type[Strategy]], params: Mapping[str, Any] | None = None
) -> Subject:
    """What the checks look at.

    Raises:
        UsageError: a wrong parameter, or a modifier without a strategy beside it.
    """
    kind = strategy.value if isinstance(strategy, Registered) else strategy
    if kind.modifies:
        raise UsageError(alone(kind.name, kind.modifies))
    given = dict(params or {})
    kind.resolve(given)
    if isinstance(strategy, Registered):
        return Subject(kind, given, strategy.plugin.distribution, strategy.plugin.version)
    return Subject(kind, given)


def run_check(check: Check, subject: Subject, earlier: Mapping[str, Finding]) -> Finding:
    """Run one check.

    Args:
        check: which.
        subject: the strategy.
        earlier: the findings of the checks before it, by name.
    """
    began = time.perf_counter()
    for need in (earlier[name] for name in check.needs if name in earlier):
        if need.status == "fail" or need.blocked:
            text = need.text if need.blocked else f"after {need.check.name} failed"
            return Finding(check, "skip", text, blocked=True)
    with _isolated():
        try:
            verdict = check.run(subject)
        except PairError as error:
            verdict = skipped(f"it refuses such networks: {error}")
        except BaseException as error:
            raise_if_interrupted(error)
            # Whatever a strategy raises here it would raise in a training: that is what the check found.
            verdict = failed(_explained(error, subject.kind))
    return Finding(check, verdict.status, verdict.text, seconds=time.perf_counter() - began)


def _explained(error: BaseException, kind: type[Strategy]) -> str:
    """An error in one line, with the last line of the strategy's own code that it came through."""
    return foreign.sentence(error, [home for part in parts_of(kind) for home in foreign.module_homes(part.__module__)])


@contextmanager
def _isolated() -> Iterator[None]:
    """Give back the random generators as they were; tiny networks are quickest, and repeatable, on one thread."""
    settings, numpy_state, python_state = ProcessState.now(), np.random.get_state(), random.getstate()
    torch.set_num_threads(1)
    leave, owner = os._exit, os.getpid()

    def refuse(status: int) -> NoReturn:
        if os.getpid() != owner:  # a process that was forked from this one ends so
            leave(status)
        raise SystemExit(f"os._exit({status}) would end the bench")

    os._exit = refuse
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os._exit = leave
        settings.put_back()
        np.random.set_state(numpy_state)
        random.setstate(python_state)
