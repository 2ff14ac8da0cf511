"""Strategies as they stand in public code: of those with a mistake most are caught, and right ones pass."""

from __future__ import annotations

import inspect

import mistaken_features
import mistaken_logits
import mistaken_memories
import pytest
from check_sets import UNTRAINED
from mistaken import Mistaken
from unusual import Unusual, all_unusual

from kdzoo.testing import run_checks

RIGHT = (mistaken_logits.Softened, mistaken_features.Adapted, mistaken_memories.Remembers)
"""What the mistakes are made in."""

COSTLY = {"memory-growth", "thousand-classes", "search-space"}
QUICK = {name for name in UNTRAINED if name not in COSTLY | {"examples"}}

TRAINED = {
    "negative-cosine",
    "centred-cosine",
    "contrastive-memory",
    "momentum-memory",
    "reused-classifier",
    "warms-up",
}
"""Right ones that are also trained, in bfloat16 too: those with a state, with phases, or with gradients of any size."""


def gallery() -> list[type[Mistaken]]:
    """Every strategy with a mistake, in the order of the files."""
    found = []
    for module in (mistaken_logits, mistaken_features, mistaken_memories):
        kinds = (each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, Mistaken))
        found += [each for each in kinds if each is not Mistaken and each not in RIGHT]
    return found


@pytest.mark.parametrize("kind", gallery(), ids=lambda kind: kind.name)
def test_a_public_mistake_is_caught_by_the_check_meant_for_it(kind: type[Mistaken]) -> None:
    found = {one.check.name: one for one in run_checks(kind, only={*QUICK, *filter(None, [kind.caught_by])})}
    failed = {name: one.text for name, one in found.items() if one.status == "fail"}
    if not kind.caught_by:
        assert failed == {}, "it is caught now: say by which check, and take it out of the docs' page"
        return
    assert found[kind.caught_by].status == ("warn" if kind.warns else "fail"), found[kind.caught_by].text
    assert set(failed) - {kind.caught_by} <= kind.also, failed


def test_the_gallery_is_large_and_its_blind_spots_are_told() -> None:
    assert len(gallery()) >= 35
    assert {kind.name for kind in gallery() if not kind.caught_by} == {"mixes-positions"}


@pytest.mark.parametrize("kind", RIGHT, ids=lambda kind: kind.name)
def test_what_the_mistakes_are_made_in_is_right(kind: type[Mistaken]) -> None:
    found = run_checks(kind, only=QUICK)
    assert {one.check.name: one.text for one in found if one.status == "fail"} == {}


@pytest.mark.parametrize("kind", all_unusual(), ids=lambda kind: kind.name)
def test_what_is_right_and_unusual_passes(kind: type[Unusual]) -> None:
    trained = {"two-epochs", "checkpoint", "gradient-adapters", "bf16-training"} if kind.name in TRAINED else set()
    found = run_checks(kind, only={*QUICK, "card", *trained})
    assert {one.check.name: one.text for one in found if one.status == "fail"} == {}
    assert {one.check.name for one in found if one.status == "warn"} <= {"argument-order", "gradient-student"}


def test_unusual_strategies_are_many() -> None:
    assert len(all_unusual()) >= 15
    assert {kind.name for kind in all_unusual()} >= TRAINED
