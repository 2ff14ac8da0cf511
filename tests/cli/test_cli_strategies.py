from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.cli.strategies import cost


def _listed(text: str) -> dict[str, str]:
    """The rows of the table by the strategy's name, which stands behind the family."""
    header, _, *rows = text.splitlines()
    assert header.split() == ["family", "name", "year", "needs", "adds", "cost", "from"]
    return {row[header.index("name") :].split()[0]: row for row in rows}


def test_lists_every_strategy_by_family_with_year_and_cost(kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("strategies")
    assert (result.code, result.err) == (0, "")
    rows = _listed(result.out)
    assert {"ce", "soft", "fitnets", "at", "rkd"} <= set(rows)
    assert rows["soft"].split()[-5:] == ["2015", "logits", "one", "softmax", "kdzoo"]
    assert "of the teacher: none" in rows["ce"]
    assert "logits; of the teacher: none second student" in " ".join(rows["dml"].split())
    assert all(" trainings " in rows[name] for name in ("takd", "ban"))
    assert all(" modules " in rows[name] for name in ("simkd", "norm", "lift"))
    assert max(map(len, result.out.splitlines())) <= 164
    families = [row.split()[0] for row in result.out.splitlines()[2:] if not row.startswith(" ")]
    assert families == sorted(set(families))


def test_lists_only_what_needs_no_other_signals(kdzoo: Callable[..., Any]) -> None:
    logits = _listed(kdzoo("strategies", "--needs", "logits").out)
    both = _listed(kdzoo("strategies", "--needs", "logits, embedding").out)
    assert {"ce", "soft"} <= logits.keys()
    assert not {"fitnets", "at", "rkd"} & logits.keys()
    assert "rkd" in both
    wrong = kdzoo("strategies", "--needs", "logit")
    assert (wrong.code, wrong.err) == (2, "error: unknown signal 'logit'; did you mean logits?\n")


def test_the_cost_ends_at_its_first_stop() -> None:
    assert cost("What it is.\n\nCost: one pass; no adapters. More.\n\nEnd.") == "one pass"
    assert cost("Cost: 1.5 times a step\nand more.") == "1.5 times a step and more"
    assert cost("No word of it.") == ""


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


def test_a_value_that_nobody_gives_for_imagenet_is_not_made_up(kdzoo: Callable[..., Any]) -> None:
    def column(card: str, *names: str) -> dict[str, str]:
        rows = [line.split() for line in kdzoo("strategies", "show", card).out.splitlines()]
        return {row[0]: row[3] for row in rows if row and row[0] in names}

    assert column("rkd", "distance", "angle") == {"distance": "-", "angle": "-"}
    assert column("dkd", "alpha", "beta") == {"alpha": "1.0", "beta": "0.5"}  # alpha is the same there
    assert column("dkd+rkd", "dkd.alpha", "rkd.angle") == {"dkd.alpha": "1.0", "rkd.angle": "-"}


@pytest.mark.parametrize("name", ["ce", "fitnets", "at", "rkd"])
def test_every_built_in_has_a_card(name: str, kdzoo: Callable[..., Any]) -> None:
    result = kdzoo("strategies", "show", name)
    assert result.code == 0
    assert "Signals: " in result.out
    assert "Loss: " in result.out


def test_a_single_files_strategies_are_listed_too(kdzoo: Callable[..., Any], toys: Path) -> None:
    listed = kdzoo("strategies", "--plugin", toys).out
    assert _listed(listed)["plain"].split() == ["plain", "logits", "file"]
    card = kdzoo("strategies", "show", "plain", "--plugin", toys).out
    assert "The mean squared difference of the logits." in card
    assert "of the term" in card
