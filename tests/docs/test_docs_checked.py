"""docs/checked.json says of every built-in strategy, in its present revision, what was checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from docs_pages import tool

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


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_the_kit_said_of_the_equation_is_put_in_words(name: str) -> None:
    said = CHECKED[name]["equation"]
    assert not said or tool("checked").equation_text(said).endswith("with the equation")


def test_what_was_checked_is_told_in_words() -> None:
    checked = tool("checked")
    one = "as the equation says: temperature squared (main/soft changes 1.00 times in the gradient from 16 to 32)"
    assert checked.equation_text(one) == "the scale of the gradient in T agrees with the equation"
    assert checked.equation_text(f"{one}, soft summed over the classes") == (
        "the scale of the gradient in T and the sum over the classes agree with the equation"
    )
    counts = {"passed": 46, "with a warning": 1, "skipped": 7}
    assert checked.kit_text(counts, []) == "46 passed, 7 skipped, 1 warning"
    assert checked.kit_text(counts, ["cost"]) == "46 passed, 7 skipped, 1 warning (cost)"
