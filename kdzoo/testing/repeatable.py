"""The check that the same seed gives the same terms, and that only kdzoo sets seeds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import torch

from kdzoo.testing.check import Check, Verdict, failed, passed
from kdzoo.testing.state import same
from kdzoo.testing.subject import Subject

GENERATORS: dict[str, Callable[[], object]] = {
    "torch": torch.random.get_rng_state,
    "numpy": np.random.get_state,
    "Python": random.getstate,
}
"""Whose global generator -> how to read its state."""


def _repeatable(subject: Subject) -> Verdict:
    for seed in range(2):
        one, other = subject.call(seed=seed).values, subject.call(seed=seed).values
        if one != other:
            name = next(name for name in one if one[name] != other.get(name))
            return failed(f"with the same seed {name} is {one[name]:.8g} and then {other.get(name, math.nan):.8g}")
    setup = subject.pair().setup(subject.kind)
    if whose := _seeded(lambda seed: subject.build(setup, seed=seed)):
        return failed(
            f"build sets the seed of {whose}'s global generator: its adapters start alike whatever the seed of the "
            "training"
        )
    if whose := _seeded(lambda seed: subject.call(seed=seed)):
        return failed(f"it sets the seed of {whose}'s global generator, whose numbers then repeat at every step")
    return passed("bit for bit with the same seed" + ("; it draws from the global generators" if subject.draws else ""))


def _seeded(run: Callable[[int], object]) -> str:
    """Whose generator is in one state after ``run`` with different seeds; empty where none is."""
    after: list[dict[str, object]] = []
    for seed in range(2):
        run(seed)
        after.append({whose: state() for whose, state in GENERATORS.items()})
    return next((whose for whose in GENERATORS if same(after[0][whose], after[1][whose])), "")


REPEATABLE = Check(
    name="repeatable",
    verifies="two fresh strategies give bit for bit the same terms from the same seed, and neither `build` nor "
    "`forward` sets a seed itself, be it torch's, numpy's or Python's",
    matters="a result that changes from run to run cannot be checked by others, nor a killed run be taken up; a seed "
    "that is set in `build` makes the runs of different seeds start alike, and their spread too small",
    mend="draw from torch's global generator (`torch.randint`, `torch.rand`), which is seeded for each epoch; set no "
    "seed, make no generator of your own, read no clock, iterate over no set",
    run=_repeatable,
    needs=("terms",),
)
