"""Cells that take turns in one process: what one changes of it holds in its own turns only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdzoo.bench.lockstep import _Member
from kdzoo.process_state import ProcessState

Course = Iterator[Any]


def test_a_folder_that_one_cell_changes_is_not_another_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "away").mkdir()
    seen: list[tuple[str, str, torch.dtype]] = []

    def course(name: str) -> Any:
        state = ProcessState.now()
        for step in range(2):
            seen.append((name, Path.cwd().name, torch.get_default_dtype()))
            if name == "mover" and step == 0:
                os.chdir("away")
                torch.set_default_dtype(torch.float64)
            yield step
        state.put_back()
        return state.summary()

    cell: Any = None
    mover, other = _Member(cell, course("mover")), _Member(cell, course("other"))
    here = tmp_path.name
    for _ in range(3):
        for member in (mover, other):
            member.go_on()
            assert Path.cwd() == tmp_path
            assert torch.get_default_dtype() == torch.float32
    assert seen == [
        ("mover", here, torch.float32),
        ("other", here, torch.float32),
        ("mover", "away", torch.float64),
        ("other", here, torch.float32),
    ]
    assert "the current folder" in str(mover.record)
    assert other.record == ""
