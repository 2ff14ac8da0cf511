"""``kdzoo find`` from the command line: the finding, the same after a kill, and what boards and readers see of it."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import finish, start, wait_until

from kdzoo.store import Store

TOYS = '''
from kdzoo import Strategy, param


class Heave(Strategy):
    """The mean squared difference of the logits."""

    name = "heave"
    weight: float = param(0.01, "of the term", ge=0, search=(0.001, 1.0), log=True)

    def forward(self, student, teacher, batch):
        return {"mse": self.weight * (student.logits - teacher.logits).square().mean()}
'''
STRATEGIES = ("--strategies", "heave,soft,picky,clumsy")
BUDGET = ("--budget", "10x")


@pytest.fixture(scope="module")
def heave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heave") / "heave.py"
    path.write_text(TOYS)
    return path


@pytest.fixture(scope="module")
def asked(small: tuple[Any, ...], heave: Path) -> tuple[Any, ...]:
    """Arguments of a race that takes some seconds, without its folder and its budget."""
    return ("find", *small[1:], "--plugin", heave, *STRATEGIES)


@pytest.fixture(scope="module")
def raced(
    tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any], asked: tuple[Any, ...]
) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("raced") / "runs"
    return out, kdzoo(*asked, *BUDGET, "--out", out, "--plot", out.parent / "plots")


def told(text: str) -> str:
    """What a race says, without what it cost and where it ran, in words: a terminal may fold it otherwise."""
    return " ".join(text.partition("\ncost ")[0].split())


def test_it_says_how_the_race_goes_and_what_it_found(raced: tuple[Path, Any]) -> None:
    out, result = raced
    assert result.code == 1, result.err  # of clumsy, which fails
    assert "rung 1 of 2: 3 strategies at default values" in result.err
    assert re.search(r"rung 1 of 2: \d more settings? of .*heave", result.err)
    assert re.search(r"\d of \d settings go on: .*heave", result.err)
    assert "rung 2 of 2, to epoch 2; about" in result.err
    assert "finals on 1 fresh seed: ce, " in result.err
    assert "left" in result.err
    assert "picky cannot serve" in result.err
    table, _, finding = result.out.partition("\n\n")
    assert "epoch 1  epoch 2  how far it got" in table
    assert re.search(r"clumsy +1 +- +- +failed: RuntimeError", table)
    assert finding.startswith("recommended  ")
    assert re.search(r"cost +\d\.\d of 10 trainings, ", finding)
    assert "selection    saw 3 strategies and" in finding
    kinds = [record.cell.kind for record in Store.open(out).records()]
    assert kinds.count("student") == 3
    assert kinds.count("teacher") == 1
    assert {path.suffix for path in (out.parent / "plots").iterdir()} == {".svg", ".html"}


def test_the_same_command_finds_it_again_and_trains_nothing(
    kdzoo: Callable[..., Any], asked: tuple[Any, ...], raced: tuple[Path, Any], starts: Callable[[Path], list[str]]
) -> None:
    out, first = raced
    broken = {record.id for record in Store.open(out).records() if record.status == "failed"}
    before = [each for each in starts(out) if each not in broken]
    again = kdzoo(*asked, *BUDGET, "--out", out)
    assert told(again.out) == told(first.out)
    assert [each for each in starts(out) if each not in broken] == before


def test_boards_and_publishing_take_the_finals_marked(
    kdzoo: Callable[..., Any], raced: tuple[Path, Any], tmp_path: Path
) -> None:
    out, result = raced
    settings = re.search(r"and (\d+) settings", result.out)
    assert settings is not None
    mark = f"found (3 strategies, {settings[1]} trials)"
    board = kdzoo("board", "--out", out, "--format", "csv").out
    assert board.count(mark) == 2
    assert "clumsy" not in board
    assert "chosen by a race" in kdzoo("board", "--out", out, "--explain").out
    published = kdzoo("publish", out, "--to", tmp_path / "boards")
    assert published.code == 0, published.err
    assert kdzoo("check", tmp_path / "boards").code == 0
    rows = json.loads((tmp_path / "boards" / "shades" / "board.json").read_text())
    assert json.dumps(rows).count(mark) >= 2
    names = {path.parent.name for path in (tmp_path / "boards").glob("records/shades/*/*.json")}
    assert len(names) == 2  # the pair, and the teachers


def test_the_command_that_it_gives_trains_the_recommended_student(
    kdzoo: Callable[..., Any], raced: tuple[Path, Any], starts: Callable[[Path], list[str]]
) -> None:
    out, result = raced
    (line,) = [line for line in result.out.splitlines() if line.startswith("train it")]
    words = shlex.split(line.removeprefix("train it"))
    assert words[:2] == ["kdzoo", "bench"]
    before = starts(out)
    trained = kdzoo(*words[1:])
    assert trained.code == 0, trained.err
    assert starts(out) == before
    (weights,) = re.findall(r"cells/([0-9a-f]{16})/student.safetensors", result.out)
    assert (out / "cells" / weights / "student.safetensors").is_file()


def test_a_budget_in_time_becomes_trainings_that_repeat_it(
    kdzoo: Callable[..., Any],
    asked: tuple[Any, ...],
    raced: tuple[Path, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, first = raced
    given: list[float] = []

    def reckoned(seconds: float, at_once: int, *_: Any) -> float:
        given.extend([seconds, at_once])
        return 10.0

    monkeypatch.setattr("kdzoo.find.racing.trainings_in", reckoned)
    timed = kdzoo(*asked, "--budget", "30min", "--out", out)
    assert timed.code == 1, timed.err
    assert given == [1800, 1]
    assert "the time allows 10 trainings: --budget 10x repeats this race" in timed.err
    assert told(timed.out) == told(first.out)
    assert timed.out.rstrip().endswith("--budget 10x")


def test_a_dry_run_trains_nothing(kdzoo: Callable[..., Any], asked: tuple[Any, ...]) -> None:
    shown = kdzoo(*asked, *BUDGET, "--dry-run", "--out", "dry")
    assert shown.code == 0, shown.err
    assert "race of 3 strategies, with rungs that end after epochs 1, 2" in shown.out
    assert not Path("dry").exists()


@pytest.mark.parametrize(
    ("flags", "told_why"),
    [
        (("--budget", "soon"), "--budget soon: write trainings as 40x, or a time as 2h"),
        (
            ("--budget", "2x"),
            "the budget of 2 trainings is too small: 3 strategies and the student alone need at least",
        ),
        (("--student", "test_resnet,test_vit:patch_size=4"), "a race is of one pair on one dataset, not of 2"),
        (("--search", "recipe.lr=0.01:0.1"), "leave out --search recipe.lr"),
    ],
)
def test_what_cannot_be_raced_is_refused(
    flags: tuple[str, ...], told_why: str, kdzoo: Callable[..., Any], asked: tuple[Any, ...]
) -> None:
    refused = kdzoo(*asked, *flags, "--out", "refused")
    assert refused.code == 2
    assert told_why in refused.err
    assert not list(Path("refused").glob("cells/*/record.json"))


def test_the_help_has_no_option_that_a_race_ignores(kdzoo: Callable[..., Any]) -> None:
    text = kdzoo("find", "--help").out
    assert "--budget" in text
    for flag in ("--balance", "--tune", "--pruner", "--eval-every", "--lockstep"):
        assert flag not in text


@pytest.mark.exhaustive
def test_killed_or_with_two_workers_it_finds_the_same(
    asked: tuple[Any, ...], raced: tuple[Path, Any], tmp_path: Path
) -> None:
    _, first = raced
    command = (sys.executable, "-m", "kdzoo", *asked, *BUDGET)
    runs = tmp_path / "killed"
    for number in (3, 8):
        process = start(*command, "--out", runs)
        wait_until(lambda number=number: starts_in(runs) >= number, f"cell {number}", process)
        process.kill()
        finish(process)
        assert process.returncode == -signal.SIGKILL
    out, err = finish(start(*command, "--out", runs))
    assert told(out) == told(first.out), err
    out, err = finish(start(*command, "--out", tmp_path / "two", "--workers", 2))
    assert told(out) == told(first.out), err
    one, two = (
        {record.id: (record.outcome(), record.found) for record in Store.open(path).records()}
        for path in (runs, tmp_path / "two")
    )
    assert one == two


def starts_in(out: Path) -> int:
    path = out / "events.jsonl"
    return path.read_text().count('"event":"start"') if path.exists() else 0
