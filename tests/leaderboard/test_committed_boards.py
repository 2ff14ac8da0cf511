"""The leaderboards of this repository."""

from __future__ import annotations

from pathlib import Path

from kdzoo.leaderboard.check.published import check_leaderboard


def test_the_committed_leaderboards_have_no_fault() -> None:
    report = check_leaderboard(Path(__file__).parents[2] / "leaderboards")
    assert [*map(str, report.faults), report.advice] == [""]
    assert report.leaderboard.records
    assert report.leaderboard.studies
