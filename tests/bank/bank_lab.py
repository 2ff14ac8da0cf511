"""Runs benches with a bank, and counts what the teacher does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from small_lab import Quiet, Run, prepare

from kdzoo import Strategy
from kdzoo.bench.session import run_bench
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.models.teacher import Teacher
from kdzoo.record import Record

EXACT = {form: BankSettings(form, dtype="float32") for form in ("ram", "disk")}


@dataclass
class Banked:
    """A bench that ran: what came of it, and what was said."""

    bench: Run
    said: list[str]
    passes: int = 0
    """Images that the teacher saw, where they were counted."""

    def only(self, strategy: str) -> Record:
        return self.bench.only(strategy)


def banked(
    out: Path, strategies: Sequence[type[Strategy] | str], settings: BankSettings | None, **config: Any
) -> Banked:
    """Plan and run a bench with a bank (None: with the teacher in the loop)."""
    said: list[str] = []
    report, rerun = config.pop("report", None) or Quiet(), config.pop("rerun", "failed")
    bench = prepare(out, strategies, **config)
    bench.lab.bank = settings
    bench.lab.say_with(said.append)
    bench.records = run_bench(bench.plan, bench.lab, report, rerun).records
    return Banked(bench, said)


def terms(record: Record) -> list[dict[str, float]]:
    """The loss curves of a done record."""
    assert record.status == "done", record.traceback
    return [line.terms for line in record.curve]


@dataclass
class Passes:
    """Images that the teacher saw, batch by batch."""

    sizes: list[int] = field(default_factory=list)

    @property
    def images(self) -> int:
        return sum(self.sizes)


@contextmanager
def counted() -> Iterator[Passes]:
    """Count the teacher's passes in the block."""
    passes, original = Passes(), Teacher.forward

    def forward(self: Teacher, inputs: Any, signals: Any) -> Any:
        passes.sizes.append(len(inputs))
        return original(self, inputs, signals)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "forward", forward)
        yield passes
