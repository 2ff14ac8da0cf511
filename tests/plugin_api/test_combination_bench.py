"""Combinations on the command line: trained, tuned, shown, published, checked and trained again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdzoo.record import Record, parse_record
from kdzoo.registry import Registry
from kdzoo.store import Store

EXTRA = '''
import torch
from torch import nn

from kdzoo import Phase, Strategy, param


class Plain(Strategy):
    """The mean squared difference of the logits."""

    name = "plain"
    weight: float = param(0.01, "of the term", ge=0, search=(0.001, 0.1), log=True)

    def forward(self, student, teacher, batch):
        return {"mse": self.weight * (student.logits - teacher.logits).square().mean()}


class Headed(Strategy):
    """Predicts through a head of its own."""

    name = "headed"
    signals = ("embedding",)
    deployed = ("head",)

    def build(self, setup):
        self.head = nn.Linear(setup.student.embedding, setup.num_classes)

    def forward(self, student, teacher, batch):
        return {"size": 0.001 * student.embedding.square().mean()}

    def predict(self, student):
        return self.head(student.embedding)


class Clumsy(Strategy):
    name = "clumsy"

    def forward(self, student, teacher, batch):
        return {"oops": [][3]}
'''
MANY = "soft+at,fitnets+soft,plain+headed,soft+plain,soft+clumsy"
SETTINGS = (
    "fitnets+soft.fitnets.hint_epochs=1",
    "soft+at.soft.temperature=2",
    "soft+at.ce_weight=0.5",
    "soft+at.at.beta=10",
    "recipe.ema=0.5",
)


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extra") / "extra.py"
    path.write_text(EXTRA)
    return path


@pytest.fixture(scope="module")
def asked(extra: Path, small: tuple[Any, ...]) -> tuple[Any, ...]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return (*small, "--student", "test_resnet", "--epochs", 4, "--plugin", extra, "--strategies", MANY, *settings)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Any], asked: tuple[Any, ...]
) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("combined") / "runs"
    return out, kdzoo("bench", *asked, "--out", out)


@pytest.fixture(scope="module")
def stored(trained: tuple[Path, Any]) -> dict[str, Record]:
    found = [parse_record(path.read_bytes(), str(path)) for path in trained[0].glob("cells/*/record.json")]
    return {record.cell.strategy.name: record for record in found if record.cell.kind == "student"}


def test_all_are_trained_and_stand_on_the_board(trained: tuple[Path, Any], stored: dict[str, Record]) -> None:
    result = trained[1]
    assert set(stored) == {"ce", *MANY.split(",")}
    assert result.code == 1
    assert {name for name, record in stored.items() if record.status != "done"} == {"soft+clumsy"}
    rows = {line.split()[1] for line in result.out.splitlines() if re.match(r"[\d-]+ +\S", line)}
    assert {"ce", "soft+at", "fitnets+soft", "file:plain+headed", "kdzoo+file:soft+plain"} <= rows


def test_the_record_says_what_was_combined(stored: dict[str, Record]) -> None:
    both = stored["soft+at"].cell.strategy
    assert (both.distribution, both.revision) == ("kdzoo", "1+1")
    assert both.params == {
        "soft.temperature": 2.0, "soft.alpha": 0.9, "at.beta": 10.0, "at.power": 2.0, "ce_weight": 0.5,
    }  # fmt: skip
    assert stored["soft+at"].family == "combination"
    mixed = stored["soft+plain"]
    assert mixed.cell.strategy.distribution == "kdzoo+file"
    assert re.fullmatch(r"1\+[0-9a-f]{12}", mixed.cell.strategy.revision)
    assert mixed.environment.versions["file"] == mixed.cell.strategy.revision.partition("+")[2]


def test_the_curve_has_the_terms_of_all_parts(stored: dict[str, Record]) -> None:
    assert set(stored["soft+at"].curve[0].terms) == {"ce", "soft.soft", "at.attention"}
    hint, *main = stored["fitnets+soft"].curve
    assert (hint.phase, set(hint.terms)) == ("hint", {"fitnets.hint"})
    assert {line.phase for line in main} == {"main"}
    assert set(main[0].terms) == {"ce", "soft.soft"}


def test_the_failing_part_is_named_with_its_line(trained: tuple[Path, Any], stored: dict[str, Record]) -> None:
    line = 1 + EXTRA.splitlines().index('        return {"oops": [][3]}')
    assert stored["soft+clumsy"].reason == f"IndexError: list index out of range (extra.py:{line})"
    assert f'extra.py", line {line}, in forward' in trained[1].err


def test_the_head_of_a_part_stays_with_the_student_and_is_measured_again(
    trained: tuple[Path, Any], stored: dict[str, Record], extra: Path, shades: Path
) -> None:
    from kdzoo.bench.remeasure import remeasure

    record = stored["plain+headed"]
    assert (trained[0] / "cells" / record.id / "deployed.safetensors").is_file()
    assert record.adapter_parameters == 0
    registry = Registry.load([shades, extra])
    done = [each for each in stored.values() if each.status == "done"]
    assert remeasure(done, Store.open(trained[0]), registry, data_dir=None, device="cpu") == []


def test_the_same_command_finds_them_done(
    trained: tuple[Path, Any], asked: tuple[Any, ...], kdzoo: Callable[..., Any]
) -> None:
    shown = kdzoo("bench", *asked, "--out", trained[0], "--dry-run")
    assert shown.code == 0
    assert re.search(r"done +soft\+at test_resnet", shown.out)
    assert "7 cells: 6 done, 1 failed" in shown.out


def test_a_published_board_with_them_holds_the_check(
    trained: tuple[Path, Any], kdzoo: Callable[..., Any], tmp_path: Path
) -> None:
    published = kdzoo("publish", trained[0], "--to", tmp_path / "boards")
    assert published.code == 0, published.err
    checked = kdzoo("check", tmp_path / "boards")
    assert (checked.code, "no faults" in checked.out) == (0, True)
    page = (tmp_path / "boards" / "shades" / "board.md").read_text()
    assert "soft+at" in page
    assert "soft.temperature=2" in page


def test_both_orders_in_one_bench_are_refused(kdzoo: Callable[..., Any], small: tuple[Any, ...]) -> None:
    result = kdzoo("bench", *small, "--strategies", "soft+at,at+soft", "--dry-run")
    assert result.code == 2
    assert result.err == "error: soft+at and at+soft are the same combination: leave one of them out\n"


def test_a_bench_file_sets_and_searches_them(
    kdzoo: Callable[..., Any], small: tuple[Any, ...], extra: Path, tmp_path: Path
) -> None:
    bench = tmp_path / "bench.yaml"
    bench.write_text(
        "strategies: [soft+plain]\nset:\n  soft+plain.soft.alpha: 0.5\ntune: 2\ntune_epochs: 1\n"
        "search:\n  soft+plain.ce_weight: 0.5:2\n"
    )
    result = kdzoo("bench", *small, "--plugin", extra, "--config", bench)
    assert result.code == 0, result.err
    (study,) = [json.loads(path.read_bytes()) for path in Path("runs/studies").glob("*.json")]
    owned = ("soft.temperature", "soft.alpha", "plain.weight", "ce_weight")
    assert set(study["plan"]["space"]) == {f"soft+plain.{name}" for name in owned}
    assert study["trials"][0]["values"]["soft+plain.soft.alpha"] == 0.5
    assert "kdzoo+file:soft+plain" in result.out
    assert "soft.temperature" in kdzoo("tune", "--show").out


def test_too_many_searched_parameters_are_cut_and_one_more_is_refused(
    kdzoo: Callable[..., Any], small: tuple[Any, ...]
) -> None:
    tuned = ("bench", *small, "--student", "test_resnet", "--strategies", "rkd+soft+at", "--tune", 1, "--dry-run")
    shown = kdzoo(*tuned).out
    assert "at.beta" in shown
    assert "at.power" not in shown
    more = kdzoo(*tuned, "--search", "rkd+soft+at.at.power=1:3")
    assert more.code == 2
    assert "rkd+soft+at has 6 parameters to search" in more.err


def test_the_card_names_the_parts(kdzoo: Callable[..., Any]) -> None:
    card = kdzoo("strategies", "show", "soft+at").out
    assert card.startswith("soft+at (combination), from kdzoo ")
    for piece in ("Geoffrey Hinton", "Sergey Zagoruyko", "The terms of soft and at, added.", "Signals: logits, stages"):
        assert piece in card
    rows = {line.split()[0]: line.split()[1:3] for line in card.splitlines() if re.match(r"(soft\.|at\.|ce_w)", line)}
    assert rows["at.beta"] == ["1000.0", "1000.0"]
    assert rows["ce_weight"] == ["1.0", "-"]


def test_unknown_parts_and_owners_are_told(kdzoo: Callable[..., Any], small: tuple[Any, ...]) -> None:
    for words, told in (
        (("--strategies", "soft+att"), "unknown strategy 'att'; did you mean at?"),
        (
            ("--strategies", "soft+at", "--set", "soft.temperature=2"),
            "set soft.temperature: unknown strategy of the bench 'soft'; did you mean soft+at?",
        ),
        (("--strategies", "soft+at", "--set", "soft+at.temperature=2"), "unknown parameter of soft+at 'temperature'"),
    ):
        result = kdzoo("bench", *small, *words, "--dry-run")
        assert result.code == 2
        assert told in result.err
