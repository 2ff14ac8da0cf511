"""Runs the checks of a strategy, in their order, each shielded from the others."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch

from kdzoo import foreign
from kdzoo.errors import PairError, UsageError, unknown
from kdzoo.interruption import heed
from kdzoo.process_state import ProcessState
from kdzoo.registry import Entry
from kdzoo.strategy import Strategy
from kdzoo.testing.catalogue import CHECKS
from kdzoo.testing.check import Check, Finding, failed, skipped
from kdzoo.testing.subject import Subject, parts_of


def run_checks(
    strategy: type[Strategy] | Entry[type[Strategy]],
    params: Mapping[str, Any] | None = None,
    *,
    only: Collection[str] = (),
) -> list[Finding]:
    """Run the conformance checks of a strategy; about 20 seconds on one core.

    Args:
        strategy: the class, or its entry in a registry.
        params: values of its hyperparameters; the others have their defaults.
        only: names of checks; by default all. A check that needs others is run after them.

    Returns:
        One finding for each check that ran, in the order of :data:`kdzoo.testing.CHECKS`.

    Raises:
        UsageError: an unknown check, or a wrong parameter.
    """
    return list(findings(make_subject(strategy, params), select(only)))


def make_subject(strategy: type[Strategy] | Entry[type[Strategy]], params: Mapping[str, Any] | None = None) -> Subject:
    """What the checks look at.

    Raises:
        UsageError: a wrong parameter.
    """
    kind = strategy.value if isinstance(strategy, Entry) else strategy
    given = dict(params or {})
    kind.resolve(given)
    if isinstance(strategy, Entry):
        return Subject(kind, given, strategy.plugin.distribution, strategy.plugin.version)
    return Subject(kind, given)


def select(only: Collection[str]) -> tuple[Check, ...]:
    """The named checks and those that they need, in order; all where none is named.

    Raises:
        UsageError: there is no check of that name.
    """
    by_name = {check.name: check for check in CHECKS}
    for name in only:
        if name not in by_name:
            raise UsageError(unknown("check", name, by_name))
    wanted, left = set[str](), list(only or by_name)
    while left:
        name = left.pop()
        wanted.add(name)
        left += [need for need in by_name[name].needs if need not in wanted]
    return tuple(check for check in CHECKS if check.name in wanted)


def findings(subject: Subject, checks: Sequence[Check]) -> Iterator[Finding]:
    """Run checks one after the other, and give each finding when it is there."""
    found: dict[str, Finding] = {}
    for check in checks:
        found[check.name] = run_check(check, subject, found)
        yield found[check.name]


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
    with _apart():
        try:
            verdict = check.run(subject)
        except PairError as error:
            verdict = skipped(f"it refuses such networks: {error}")
        except BaseException as error:
            heed(error)
            # Whatever a strategy raises here it would raise in a training: that is what the check found.
            verdict = failed(_told(error, subject.kind))
    return Finding(check, verdict.status, verdict.text, seconds=time.perf_counter() - began)


def _told(error: BaseException, kind: type[Strategy]) -> str:
    """An error in one line, with the last line of the strategy's own code that it came through."""
    return foreign.sentence(error, [home for part in parts_of(kind) for home in foreign.module_homes(part.__module__)])


@contextmanager
def _apart() -> Iterator[None]:
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
