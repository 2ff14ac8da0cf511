"""Each classic mistake is caught by the check that is meant for it, and hardly any other check fails with it."""

from __future__ import annotations

import broken_training
import pytest
from all_broken import all_broken, gallery
from check_sets import QUICK, SLOW, UNTRAINED
from sound_strategy import Sound

from kdzoo.testing import CHECKS, Finding, run_checks
from kdzoo.testing.checks import cost

pytestmark = pytest.mark.exhaustive


class Clock:
    """Each step takes a hundredth of a second, and more by as much as a strategy sleeps."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.01
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def _no_measured_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a step takes on a busy machine is no fault of a strategy."""
    clock = Clock()
    monkeypatch.setattr(cost, "time", clock)
    monkeypatch.setattr(broken_training, "time", clock)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check.name: finding for finding in findings}


def test_a_sound_strategy_passes_everything() -> None:
    found = by_name(run_checks(Sound))
    assert list(found) == [check.name for check in CHECKS]
    assert {name: one.text for name, one in found.items() if one.status in ("fail", "warn")} == {}
    skipped = {name for name, one in found.items() if one.status == "skip"}
    assert skipped == {"zero-when-equal", "reduce", "predict", "survey", "variants"}


@pytest.mark.parametrize("broken", all_broken(), ids=lambda kind: kind.name)
def test_a_mistake_is_caught_by_the_check_meant_for_it(broken: type[Sound]) -> None:
    trained = broken.classic or not {broken.caught_by, *broken.also} <= set(UNTRAINED)
    only = {*(QUICK if trained else UNTRAINED), broken.caught_by}
    found = by_name(run_checks(broken, only=only))
    failed = {name for name, one in found.items() if one.status == "fail"}
    if broken.warns:
        assert found[broken.caught_by].status == "warn", found[broken.caught_by].text
        assert failed == set()
    else:
        assert broken.caught_by in failed, {name: one.text for name, one in found.items() if one.status != "ok"}
        assert failed - {broken.caught_by} <= broken.also, {name: found[name].text for name in failed}


def test_there_are_ten_classic_mistakes_and_one_for_most_checks() -> None:
    assert sum(broken.classic for broken in all_broken()) >= 10
    meant = {broken.caught_by for broken in (*all_broken(), *gallery())} - {""}
    names = {check.name for check in CHECKS}
    assert meant <= names
    # What is left is the engine's own part, or a number that is told.
    assert names - meant == {"two-epochs", *SLOW} - meant
