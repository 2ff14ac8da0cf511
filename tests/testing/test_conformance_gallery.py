"""Strategies as they stand in public code: of those with a mistake most are caught, and right ones pass."""

from __future__ import annotations

import pytest
import torch
from all_broken import RIGHT, gallery
from all_unusual import all_unusual
from check_sets import UNTRAINED
from mistaken import Mistaken
from unusual import Heavy, Unusual

from kdzoo import Batch, Outputs, Terms, param
from kdzoo.testing import run_checks
from kdzoo.testing.kit.trainings import BATCH

pytestmark = pytest.mark.exhaustive

COSTLY = {"memory-growth", "thousand-classes", "search-space"}
QUICK = {name for name in UNTRAINED if name not in COSTLY | {"examples"}}

TRAINED = {
    "negative-cosine",
    "centred-cosine",
    "heavy",
    "contrastive-memory",
    "momentum-memory",
    "reused-classifier",
    "warms-up",
}
"""Right ones that are also trained, in bfloat16 too: those with a state, with phases, or with gradients of any size."""


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
    assert len(gallery()) == 42
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
    assert {one.check.name for one in found if one.status == "warn"} <= {"argument-order", "gradient-student"} | (
        {"two-epochs"} if kind.name == "heavy" else set()
    )


def test_unusual_strategies_are_many() -> None:
    assert len(all_unusual()) >= 15
    assert {kind.name for kind in all_unusual()} >= TRAINED


def test_a_student_that_diverges_is_trained_at_a_tenth_of_the_rate() -> None:
    found = {one.check.name: one for one in run_checks(Heavy, only=["two-epochs", "bf16-training"])}
    assert found["two-epochs"].status == "warn"
    assert found["bf16-training"].status == "ok"
    assert "at a learning rate of 0.001 and with clipped gradients, as it diverges at 0.01" in found["two-epochs"].text


class DiesInBfloat16(Heavy):
    """A loss of its own that is not finite in half precision.

    Loss: CE(student, labels) + beta mean((s - t)^2), s and t the logits, B x classes.
    """

    name = "dies-in-bfloat16"
    beta: float = param(1.0, "weight of the term", ge=0.0, search=(0.1, 1.0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        half = student.logits.dtype == torch.bfloat16 and len(batch.labels) == BATCH
        return {
            name: term * (float("nan") if half else 1.0)
            for name, term in super().forward(student, teacher, batch).items()
        }


def test_a_term_that_dies_on_sane_signals_is_not_excused() -> None:
    found = run_checks(DiesInBfloat16, only=["bf16-training"])[-1]
    assert found.status == "fail"
    assert "'near' was NaN or infinite from step 1" in found.text
