"""The command that a page shows for a row, and what it says of what the command needs."""

from __future__ import annotations

from typing import Any

import pytest
from made_records import make_cell, make_record, make_teacher

from kdzoo.leaderboard.layout import path_of_record
from kdzoo.leaderboard.page.details import repetition


def test_all_seeds_of_a_row_are_named() -> None:
    records = [make_record(make_cell("soft", seed)) for seed in range(3)]
    command, needs = repetition(records)
    assert command.split() == ["kdzoo", "run-cell", *(str(path_of_record(record)) for record in records)]
    assert needs == []


@pytest.mark.parametrize(
    ("changes", "flag", "need"),
    [
        (
            {"teacher": make_teacher(weights="file", recipe=None, strategy=None, seed=None, digest="ab12")},
            "--teacher-weights FILE",
            "FILE holds the teacher's weights, and has the SHA-256 ab12",
        ),
        (
            {"distribution": "file", "revision": "cafe01"},
            "--plugin PLUGIN.py",
            "PLUGIN.py has a SHA-256 that begins with cafe01",
        ),
        (
            {"distribution": "kdzoo+file", "revision": "1+cafe01"},
            "--plugin PLUGIN.py",
            "PLUGIN.py has a SHA-256 that begins with cafe01",
        ),
        ({"distribution": "my-pack"}, "", "the package my-pack must be installed"),
        (
            {"student": "local-dir:mine@0123456789abcdef"},
            "--model FOLDER",
            "FOLDER is that of the model local-dir:mine@0123456789abcdef, named after a hash of its config.json",
        ),
    ],
)
def test_what_a_person_must_supply_is_said(changes: dict[str, Any], flag: str, need: str) -> None:
    record = make_record(make_cell("soft", **changes))
    command, needs = repetition([record])
    assert command == f"kdzoo run-cell {path_of_record(record)} {flag}".strip()
    assert needs == [need]


def test_a_folder_of_images_must_be_given() -> None:
    cell = make_cell("soft")
    record = make_record(cell.model_copy(update={"data": cell.data.model_copy(update={"name": "folder:flowers"})}))
    command, needs = repetition([record])
    assert command.endswith(" --dataset folder:PATH")
    assert needs == ["PATH is the folder of images folder:flowers"]


@pytest.mark.parametrize("name", ["$(reboot)", "a;b", "`c`", "d'e", "--out", "<img>"])
def test_a_shell_reads_a_hostile_name_as_part_of_a_path(name: str) -> None:
    cell = make_cell("soft")
    record = make_record(cell.model_copy(update={"data": cell.data.model_copy(update={"name": name})}))
    command, _ = repetition([record])
    assert command.split() == ["kdzoo", "run-cell", str(path_of_record(record))]
    assert not set(command) & set("$;`'<>&|")
