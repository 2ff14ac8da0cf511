"""What a row costs to train beside ``ce``: seconds are as noisy as the machine is busy, so they must agree first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import median
from typing import Any, NamedTuple

UNSTEADY = "unsteady"
COMPILED = "compiled"
STEADY = 1.5
"""The slowest seed of a row may take so many times what the fastest takes."""


class Seconds(NamedTuple):
    """Seconds of training of one seed, of a row and of its baseline, and where both ran."""

    own: float
    other: float
    machine: Hashable
    compiled: bool = False


def time_values(seconds: Sequence[Seconds]) -> dict[str, Any]:
    """The columns ``time_vs_ce...``: the median of the seeds' ratios, and their range.

    There is none where the seconds of the row, or of its baseline, spread by more than :data:`STEADY` between seeds on
    one machine: then they tell of what else ran there. Nor is there one where networks were compiled, which takes part
    of the seconds, and most of it in whichever cell of a process comes first.

    Args:
        seconds: one per seed that both have.
    """
    ratios = [one.own / one.other for one in seconds if one.other > 0]
    found: dict[str, Any] = {"time_vs_ce": None, "time_vs_ce_low": None, "time_vs_ce_high": None}
    if len(ratios) == len(seconds) > 0:
        unsteady = UNSTEADY if _spread(seconds) > STEADY else ""
        note = COMPILED if any(one.compiled for one in seconds) else unsteady
        if not note:
            found = {"time_vs_ce": median(ratios), "time_vs_ce_low": min(ratios), "time_vs_ce_high": max(ratios)}
    else:
        note = "no shared seed"
    return found | {"time_vs_ce_n": len(seconds), "time_vs_ce_note": note}


def _spread(seconds: Sequence[Seconds]) -> float:
    """How many times the fastest seed the slowest takes, of the row and of its baseline, on any machine."""
    by_machine: dict[Hashable, list[Seconds]] = defaultdict(list)
    for one in seconds:
        by_machine[one.machine].append(one)
    taken = [times for group in by_machine.values() for times in ([s.own for s in group], [s.other for s in group])]
    return max(max(times) / min(times) if min(times) > 0 else float("inf") for times in taken)
