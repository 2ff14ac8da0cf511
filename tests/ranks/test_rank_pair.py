"""The pair of processes itself: a job that goes wrong is told, and costs the next one nothing."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from rank_pair import Pair
from waiting import PATIENCE

from kdzoo.engine.world import World


def _meet(world: World) -> list[int]:
    return world.collect(world.rank)


def _second_one(world: World, does: str) -> Any:
    if world.rank == 1 and does == "raises":
        raise RuntimeError("the second one is ill")
    if world.rank == 1 and does == "dies":
        os._exit(3)
    if world.rank == 1 and does == "hangs":
        time.sleep(3600)
    return world.collect(world.rank)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("does", "patience", "told"),
    [
        ("raises", PATIENCE, r"rank 1 failed: (?s:.*)RuntimeError: the second one is ill"),
        ("dies", PATIENCE, "rank 1 ended with exit code 3"),
        ("hangs", 1.0, r"rank 1 did not answer in \d+ s"),
    ],
)
def test_a_job_that_goes_wrong_does_not_disturb_the_next(
    does: str, patience: float, told: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pair.together(_meet) == [[0, 1], [0, 1]]
    with monkeypatch.context() as patch:
        patch.setattr(pair, "patience", patience)
        with pytest.raises(AssertionError, match=told):
            pair.together(_second_one, does)
    assert pair.together(_meet) == [[0, 1], [0, 1]]
