from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_lists_every_strategy_with_its_paper_and_parameters(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("strategies")
    assert (result.code, result.err) == (0, "")
    header, _, *rows = result.out.splitlines()
    assert header.split() == ["name", "family", "paper", "signals", "parameters", "from"]
    cells = {row.split()[0]: row for row in rows}
    assert {"ce", "soft", "fitnets", "at", "rkd"} <= set(cells)
    assert "Hinton 2015" in cells["soft"]
    assert "temperature=4.0, alpha=0.9" in cells["soft"]
    assert "of the teacher: none" in cells["ce"]


def test_shows_a_whole_card(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("strategies", "show", "soft")
    assert result.code == 0
    assert result.out.startswith("soft (response), from kdzoo ")
    for piece in ("Geoffrey Hinton", "arXiv:1503.02531", "Signals: logits", "alpha T^2 KL", "a number above 0"):
        assert piece in result.out
    assert kdzoo("strategies", "show", "kdzoo:soft").out == result.out


def test_a_value_that_the_paper_does_not_give_is_not_called_its_own(kdzoo: Callable[..., Any]) -> None:
    rows = [line.split() for line in kdzoo("strategies", "show", "soft").out.splitlines()]
    found = {row[0]: row[1:3] for row in rows if row and row[0] in ("temperature", "alpha")}
    assert found == {"temperature": ["4.0", "-"], "alpha": ["0.9", "-"]}


@pytest.mark.parametrize("name", ["ce", "fitnets", "at", "rkd"])
def test_every_built_in_has_a_card(name: str, kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("strategies", "show", name)
    assert result.code == 0
    assert "Signals: " in result.out
    assert "Loss: " in result.out


def test_a_single_files_strategies_are_listed_too(kdzoo: Callable[..., Any], toys: Path) -> None:
    listed = kdzoo("strategies", "--plugin", toys).out
    row = next(line for line in listed.splitlines() if line.startswith("plain "))
    assert row.split() == ["plain", "other", "-", "logits", "weight=0.01", "file"]
    card = kdzoo("strategies", "show", "plain", "--plugin", toys).out
    assert "The mean squared difference of the logits." in card
    assert "of the term" in card
