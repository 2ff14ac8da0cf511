"""A third party's plugin, installed from its wheel beside kdzoo's, from the list of strategies to the board."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from other_environment import Environment
from waiting import finish, wait_until

import kdzoo
from kdzoo.testing import CHECKS

pytestmark = pytest.mark.exhaustive

NOT_CLAIMED = {"zero-when-equal", "reduce", "predict", "equation", "variants", "survey"}
"""Checks of what it neither claims nor overrides, and of equations, of which the check reads CE, squares of T and KL;
all others must look at it."""

BENCH = shlex.split(
    "bench --strategies seed --dataset 'digits[:120]' --teacher test_efficientnet --student test_resnet --seeds 1 "
    "--epochs 6 --teacher-epochs 8 --device cpu --set seed.share=0.67 --set recipe.batch_size=16 --set recipe.lr=0.02"
)


@pytest.fixture(scope="module")
def board(theirs: Environment) -> str:
    """The board that the bench prints; its store is ``runs``."""
    return theirs.run("kdzoo", *BENCH)


def _record(theirs: Environment, runs: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the record of the one cell that the plugin's strategy trained."""
    found = [(path.parent, json.loads(path.read_bytes())) for path in theirs.work.glob(f"{runs}/cells/*/record.json")]
    ((folder, record),) = [(folder, record) for folder, record in found if record["cell"]["strategy"]["name"] == "seed"]
    return folder, record


def test_what_is_imported_is_what_was_installed(theirs: Environment) -> None:
    names = ("kdzoo", "kdzoo_zoo", "kdzoo_seed")
    code = f"import {', '.join(names)}; print(*(module.__file__ for module in ({', '.join(names)})), sep='\\n')"
    files = theirs.run("python", "-c", code).splitlines()
    assert files == [str(theirs.site / name / "__init__.py") for name in names]
    assert not [path for path in theirs.work.iterdir() if path.name != "runs"]


def test_the_plugin_is_found_with_its_version(theirs: Environment) -> None:
    rows = [line.split() for line in theirs.run("kdzoo", "plugins").splitlines()]
    (row,) = [row for row in rows if row[:1] == ["seed"]]
    assert row[1:4] == ["kdzoo-seed", "0.1.0", "seed"]
    assert row[-1] == "ok"
    assert {row[1] for row in rows[2:] if len(row) > 1 and row[-1] == "ok"} == {"kdzoo", "kdzoo-seed"}


def test_it_is_listed_among_the_strategies(theirs: Environment) -> None:
    (row,) = [line.split() for line in theirs.run("kdzoo", "strategies").splitlines() if " seed " in line]
    assert row[row.index("seed") + 1] == "2021"
    assert row[-1] == "kdzoo-seed"


def test_its_card_says_what_differs_from_the_paper(theirs: Environment) -> None:
    card = theirs.run("kdzoo", "strategies", "show", "seed")
    assert card.startswith("seed (relation), from kdzoo-seed 0.1.0\n")
    assert "arXiv:2101.04731" in card
    assert "Differs from the paper: " in card
    assert "0.0001 to 0.2 (log)" in card


def test_bench_trains_it_in_two_phases(theirs: Environment, board: str) -> None:
    _, record = _record(theirs, "runs")
    assert record["status"] == "done"
    assert record["cell"]["strategy"]["distribution"] == "kdzoo-seed"
    assert record["environment"]["versions"]["kdzoo-seed"] == "0.1.0"
    assert [line["phase"] for line in record["curve"]] == ["distil"] * 4 + ["main"] * 2
    assert [set(line["terms"]) for line in record["curve"]] == [{"similarity"}] * 4 + [{"ce"}] * 2
    assert record["curve"][3]["terms"]["similarity"] < record["curve"][0]["terms"]["similarity"]
    assert record["adapter_parameters"] > 0
    assert "kdzoo-seed:seed main_weight=0 queue=65536 " in board


def test_board_prints_the_same_again(theirs: Environment, board: str) -> None:
    assert theirs.run("kdzoo", "board") == board


def test_killed_while_it_distils_and_resumed_it_ends_as_if_it_had_not_been(theirs: Environment, board: str) -> None:
    folder, whole = _record(theirs, "runs")
    cut = theirs.work.parent / "cut"
    shutil.copytree(theirs.work / "runs", cut)  # so that the teacher is trained
    cell = cut / "cells" / folder.name
    shutil.rmtree(cell)
    process = theirs.start("kdzoo", *BENCH, "--out", cut)
    wait_until(lambda: list(cell.glob("checkpoint-*")), "its first epoch", process)
    process.kill()
    told = finish(process)
    assert process.returncode == -9, told
    newest = max(path.name for path in cell.glob("checkpoint-*"))
    assert newest < "checkpoint-000004"  # the queue is still in use
    assert not (cell / "record.json").exists()
    theirs.run("kdzoo", *BENCH, "--out", cut)
    resumed = json.loads((cell / "record.json").read_bytes())
    for part in ("curve", "tune", "test"):
        assert resumed[part] == whole[part]
    assert (cell / "student.safetensors").read_bytes() == (folder / "student.safetensors").read_bytes()


def test_it_passes_every_check_of_the_kit(theirs: Environment) -> None:
    lines = theirs.run("kdzoo", "check-strategy", "seed").splitlines()
    found = {line.split()[1]: line.split()[0] for line in lines if re.match(r"(ok|warn|fail|skip) ", line)}
    assert list(found) == [check.name for check in CHECKS]
    assert {name for name, status in found.items() if status == "skip"} <= NOT_CLAIMED, lines
    assert "fail" not in found.values()
    assert lines[-1].startswith("seed (kdzoo-seed 0.1.0): ")


def test_its_own_tests_pass_without_its_source(theirs: Environment, plugin_source: Path, tmp_path: Path) -> None:
    tests = shutil.copytree(plugin_source / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    told = theirs.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tests, tests)
    assert " passed" in told.splitlines()[-1]


def test_it_uses_public_names_only(theirs: Environment) -> None:
    used = set()
    for path in (theirs.site / "kdzoo_seed").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kdzoo":
                assert node.module == "kdzoo", f"{path.name} imports from {node.module}"
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.split(".")[0] == "kdzoo"]
    assert {"Strategy", "hookimpl", "param"} <= used <= set(kdzoo.__all__)


def test_neither_wheel_has_the_others_files(theirs: Environment) -> None:
    listed = {
        name: (theirs.site / f"{name}-0.1.0.dist-info" / "RECORD").read_text(encoding="utf-8").splitlines()
        for name in ("kdzoo", "kdzoo_seed")
    }
    owners = {
        name: {line.split("/")[0] for line in lines if not line.startswith("..")} for name, lines in listed.items()
    }
    assert owners["kdzoo"] == {"kdzoo", "kdzoo_zoo", "kdzoo-0.1.0.dist-info"}
    assert owners["kdzoo_seed"] == {"kdzoo_seed", "kdzoo_seed-0.1.0.dist-info"}
