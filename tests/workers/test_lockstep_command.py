"""``--lockstep`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_bench import by_strategy, kdzoo, outcomes


@pytest.mark.exhaustive
def test_it_gives_the_records_of_one_after_the_other(small: tuple[Any, ...], tmp_path: Path) -> None:
    arguments = (*small, "--strategies", "nudge,soft,rkd", "--seeds", 2, "--bank", "off")
    one = kdzoo(*arguments, "--out", tmp_path / "one")
    many = kdzoo(*arguments, "--out", tmp_path / "many", "--lockstep", 3)
    assert (one.code, many.code) == (0, 0), many.err
    assert outcomes(tmp_path / "many") == outcomes(tmp_path / "one")
    line = "lockstep: 3 cells (nudge, soft, rkd) share each pass of test_resnet on shades"
    assert many.err.splitlines().count(line) == 1
    assert "lockstep" not in one.err
    again = kdzoo(*arguments, "--out", tmp_path / "many", "--lockstep", 3)
    assert "were already done" in again.err
    assert "lockstep" not in again.err


@pytest.mark.exhaustive
def test_trials_that_are_asked_for_together_go_together(tuned: tuple[Any, ...], tmp_path: Path) -> None:
    arguments = (*tuned, "--bank", "off", "--seeds", 1)
    assert kdzoo(*arguments, "--out", tmp_path / "one").code == 0
    many = kdzoo(*arguments, "--out", tmp_path / "many", "--lockstep", 4)
    assert many.code == 0, many.err
    assert outcomes(tmp_path / "many") == outcomes(tmp_path / "one")


def test_the_record_tells(small: tuple[Any, ...], tmp_path: Path) -> None:
    arguments = (*small, "--strategies", "nudge,soft", "--seeds", 1, "--bank", "off", "--out", tmp_path)
    assert kdzoo(*arguments, "--lockstep", 8).code == 0
    told = {name: record.environment.bank for name, record in by_strategy(tmp_path).items()}
    assert told == {"ce": "", "nudge": "one pass on the fly for 2 cells", "soft": "one pass on the fly for 2 cells"}


@pytest.mark.parametrize("others", [("--workers", 2), ("--workers", "auto"), ("--executor", "ray")])
def test_it_is_for_one_process(others: tuple[Any, ...], small: tuple[Any, ...]) -> None:
    result = kdzoo(*small, "--strategies", "nudge", "--lockstep", 2, *others)
    assert result.code == 2
    assert result.err.splitlines()[-1].endswith("lockstep is for cells of one process: leave out workers and executor")


@pytest.mark.parametrize("number", [0, -1, "x"])
def test_it_is_a_number_of_cells(number: Any, small: tuple[Any, ...]) -> None:
    result = kdzoo(*small, "--strategies", "nudge", "--lockstep", number)
    assert result.code == 2
    assert "lockstep" in result.err
    assert "Traceback" not in result.err
