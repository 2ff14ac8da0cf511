"""docs/checked.json says of every built-in strategy, in its present revision, what was checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kdzoo_zoo

ROOT = Path(__file__).parents[2]
STRATEGIES = {kind.name: kind for kind in kdzoo_zoo.kdzoo_strategies() if not kind.modifies}
CHECKED = json.loads((ROOT / "docs" / "checked.json").read_text(encoding="utf-8"))


def test_every_strategy_was_checked_and_no_other() -> None:
    assert CHECKED.keys() == STRATEGIES.keys(), "run `python docs/checked.py NAME`"


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_was_checked_is_the_strategy_of_today(name: str) -> None:
    found = CHECKED[name]
    assert found["revision"] == STRATEGIES[name].revision
    assert "failed" not in found["kit"]
    assert found["tests"] or name == "ce"
    assert not found["tests"] or (ROOT / found["tests"]).is_file()
