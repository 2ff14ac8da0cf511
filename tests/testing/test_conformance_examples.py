"""Examples are run wherever they stand in the strategy's own code, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdzoo.registry import Registry
from kdzoo.testing import Finding, run_checks

WRONG = ">>> 1 + 1\n    3\n    "
RIGHT = ">>> 1 + 1\n    2\n    "

MODULE = '''
"""One strategy.

    {module}
"""

from kdzoo import Strategy


class Helper:
    """It helps.

    {helper}
    """


def _private():
    """Nobody else calls it.

    {private}
    """


class Chosen(Strategy):
    """It is checked.

    {chosen}
    """

    name = "chosen"

    def _inner(self):
        """A method of its own.

        {method}
        """


class Other(Strategy):
    """It is not.

    {other}
    """

    name = "other"
'''
PLACES = ("module", "helper", "private", "chosen", "method", "other")


def examples(folder: Path, **texts: str) -> Finding:
    """What is found of the strategy, with these examples in the places of that name."""
    path = folder / "examples.py"
    path.write_text(MODULE.format_map(dict.fromkeys(PLACES, "") | texts), encoding="utf-8")
    (found,) = run_checks(Registry.load([path]).strategy("file:chosen"), only=["examples"])
    return found


@pytest.mark.parametrize("place", PLACES[:-1])
def test_a_wrong_example_is_found(place: str, tmp_path: Path) -> None:
    text = WRONG.replace("\n", "\n    ") if place == "method" else WRONG
    found = examples(tmp_path, **{place: text})
    assert found.status == "fail"
    assert "Failed example: 1 + 1 Expected: 3 Got: 2" in found.text


def test_another_strategys_examples_are_its_own(tmp_path: Path) -> None:
    assert examples(tmp_path, other=WRONG).status == "warn"


def test_right_examples_are_counted_once(tmp_path: Path) -> None:
    found = examples(tmp_path, module=RIGHT, helper=RIGHT, chosen=RIGHT)
    assert (found.status, found.text) == ("ok", "3 lines of examples")


def test_modules_of_the_package_that_are_used_are_looked_at() -> None:
    found = {
        name: run_checks(Registry.load().strategy(name), only=["examples"])[0].text for name in ("fitnets", "soft+at")
    }
    assert found == {"fitnets": "2 lines of examples", "soft+at": "8 lines of examples"}
