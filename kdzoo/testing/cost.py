"""The check of what a step costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kdzoo.strategy import Batch, Outputs, Strategy, Terms
from kdzoo.testing.check import Check, Verdict, passed, warned
from kdzoo.testing.stepping import step
from kdzoo.testing.subject import Subject
from kdzoo.testing.training import BATCH, phases_of

DEAR = 5.0
"""Times a step of the student alone; beyond, a warning."""


class _Labels(Strategy):
    """The student alone, to compare costs with."""

    name = "labels-alone"
    teacher_signals = ()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        """No distillation terms."""
        return {}


def _cost(subject: Subject) -> Verdict:
    pair = subject.trainings.pair
    with tempfile.TemporaryDirectory() as folder:
        plain = subject.trainings.begin(*pair, Path(folder), kind=_Labels)
        own = subject.trainings.begin(*pair, Path(folder))
    phases = phases_of(own)
    (labels,) = phases_of(plain)
    plain.start_phase(labels)
    found, dear = [], False
    for phase in phases:
        own.start_phase(phase)
        whole, alone = _times(partial(step, own, phase), partial(step, plain, labels))
        dear |= whole > DEAR * alone
        where = f" in the phase {phase.name!r}" if len(phases) > 1 else ""
        found.append(
            f"{whole / alone:.2f} times that of labels alone{where} ({1e3 * whole:.1f} ms against {1e3 * alone:.1f} ms)"
        )
    told = f"a step at batch {BATCH}, the teacher's pass included, takes {', '.join(found)}"
    return warned(told) if dear else passed(told)


def _times(*steps: Callable[[], object]) -> Iterator[float]:
    """The shortest time of each, seconds; they take turns."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(7):
        for each, taken in zip(steps, seconds, strict=True):
            began = time.perf_counter()
            each()
            taken.append(time.perf_counter() - began)
    return map(min, seconds)


COST = Check(
    name="step-cost",
    verifies="the time of a step, in each phase, against that of a student trained on labels alone, on tiny "
    "networks; a warning beyond five times",
    matters="a gain that takes five times the time should be compared with five times the epochs",
    mend="look for loops over samples or pairs, copies to the CPU (`.item()`), and signals that are not needed",
    run=_cost,
    needs=("two-epochs",),
)
