"""A field that a later version adds to a cell keeps rows apart wherever rows are made, without any further work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kdzoo

SCRIPT = """
import json
from pathlib import Path

from folders import blank_drawings, finals, make_folder, make_record, make_rows, make_store, make_study, with_teachers
from typer.testing import CliRunner

from kdzoo.board import parsing
from kdzoo.board.cache import read_results
from kdzoo.board.overall import overall
from kdzoo.board.table import make_board
from kdzoo.cell import Cell
from kdzoo.cli import app
from kdzoo.leaderboard.check.published import content_faults
from kdzoo.store import Store


def rows(board):
    return sorted(zip(board.frame["strategy"], board.frame["top1"], board.frame["done"]))


def run(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, (result.output, result.exception)


plain = with_teachers(make_rows({"ce": [900, 902], "soft": [910, 912]}))
other = with_teachers(make_rows({"ce": [700, 702], "soft": [950, 952]}, FIELD="new"))
both = [*plain, *(record for record in other if record.cell.kind == "student")]
APART = [("ce", 70.1, 2), ("ce", 90.1, 2), ("soft", 91.1, 2), ("soft", 95.1, 2)]

# A board, of records and of planned cells, and the text that tells its tables apart.
board = make_board(both)
assert rows(board) == APART
assert not board.remarks
assert sorted(group.apart for group in board.groups) == ["FIELD=", "FIELD=new"]
planned = make_board(plain, [record.cell for record in both if record.cell.kind == "student"])
assert sorted(planned.frame["missing"]) == [0, 0, 2, 2]
(one,) = overall(board)
assert [block.text.partition("(")[2] for block in one.blocks] == ["FIELD=)", "FIELD=new)"]

# The cache, when it reads records and when it knows them; each in its quick way.
def slow(*_, **__):
    raise AssertionError

parsing.parse_record = slow
store = make_store(Path("runs"), both)
for _ in range(2):
    assert rows(make_board(read_results(Store.open(store)).results)) == APART

# A study belongs to the rows of its own context.
study = make_study("soft", [80.0, 95.0])
winners = finals(study, [905, 906])
copies = [record.cell.model_copy(update={"FIELD": "new"}) for record in winners]
tuned = make_board([*both, *winners, *(make_record(cell, 800) for cell in copies)], (), [study])
assert sorted(tuned.frame["variant"]) == ["", "", "", "", "default", "tuned"], list(tuned.frame["variant"])

# A check: a pair is not spared its baseline by another pair's.
assert content_faults(both, []) == []
lacking = [record for record in both if (record.cell.strategy.name, record.cell.FIELD) != ("ce", "new")]
assert ["has no ce row" in fault.reason for fault in content_faults(lacking, [])] == [True]

if "FIELD" == "zone":  # publishing and merging, which take long, for one of the fields
    with blank_drawings():
        run("publish", store, "--to", "whole")
        run("check", "whole")
        make_folder(Path("first"), plain)
        make_folder(Path("second"), other)
        run("merge", "first", "second", "--to", "merged")
        run("check", "merged")
    for folder in ("whole", "merged"):
        groups = json.loads(Path(folder, "digits", "board.json").read_text())["groups"]
        assert [len(group["rows"]) for group in groups] == [2, 2], folder
        assert sorted(row["top1"] for group in groups for row in group["rows"]) == [70.1, 90.1, 91.1, 95.1]
print("apart")
"""


@pytest.mark.parametrize("field", ["aspect", "zone"])  # before the seed in a record's text, and behind it
def test_a_new_field_of_a_cell_keeps_rows_apart(field: str, tmp_path: Path) -> None:
    here = Path(__file__).parent
    package = shutil.copytree(
        Path(kdzoo.__file__).parent, tmp_path / "later" / "kdzoo", ignore=shutil.ignore_patterns("__pycache__")
    )
    (package.parent / "configs").symlink_to(Path(kdzoo.__file__).parents[1] / "configs")
    source = (package / "cell.py").read_text(encoding="utf-8")
    added = source.replace('    study: str = ""\n', f'    study: str = ""\n    {field}: str = ""\n')
    assert added != source
    (package / "cell.py").write_text(added, encoding="utf-8")
    paths = [package.parent, here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("FIELD", field)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "apart\n", done.stderr
