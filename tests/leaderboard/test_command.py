"""Every command is given to the command line itself, which names the cells that it would train."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kdzoo.bench.plan import BenchPlan, make_plan
from kdzoo.cell import Cell
from kdzoo.cli import main
from kdzoo.config import load_bench
from kdzoo.leaderboard.command import Reproduction, reproduce
from kdzoo.recipe import Augment
from kdzoo.registry import Registry
from kdzoo.study import Study, Trial

PAIR = {"dataset": "digits", "teacher": "resnet10t", "student": "test_resnet", "strategies": "soft"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def plan_of(registry: Registry, **flags: Any) -> BenchPlan:
    return make_plan(load_bench("quick", PAIR | flags), registry)


def student(plan: BenchPlan, strategy: str = "soft") -> Cell:
    found = [cell for cell in plan.cells if cell.kind == "student" and cell.strategy.name == strategy]
    return max(found, key=lambda cell: cell.seed)


def shown(again: Reproduction) -> str:
    """What the command would do, by its own account."""
    out = io.StringIO()
    argv = [*shlex.split(again.command), "--dry-run"]
    assert argv[:2] == ["kdzoo", "bench"], again.words
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    return out.getvalue()


@pytest.mark.parametrize(
    "flags",
    [
        {"seeds": 2},
        {"epochs": 7, "teacher_epochs": 2, "img_size": 20},
        {"set": {"recipe.lr": 1e-05, "recipe.augment.crop": 1, "recipe.augment.flip": True, "soft.temperature": 2.5}},
        {"set": {"recipe.schedule": "step", "recipe.milestones": "0.5,0.75", "recipe.ema": 0.99}, "recipe": "modern"},
        {"recipe": "cifar240", "set": {"recipe.schedule": "cosine", "recipe.milestones": "[]"}, "epochs": 3},
        {"teacher_recipe": "modern", "teacher_epochs": 9, "teacher_weights": "train"},
        {"student": "test_vit:patch_size=4", "dataset": "digits[:500]", "strategies": "ce"},
    ],
    ids="-".join,
)
def test_the_command_names_the_cell(registry, flags):
    cell = student(plan_of(registry, **flags), flags.get("strategies", "soft"))
    again = reproduce(cell)
    assert again.words == ""
    assert cell.id in shown(again)


def test_a_recipe_of_a_file_is_given_by_its_values(registry, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("epochs: 4\nbatch_size: 50\noptimizer: adamw\nlr: 0.002\nschedule: constant\n")
    cell = student(plan_of(registry, recipe=str(own)))
    own.unlink()
    assert cell.id in shown(reproduce(cell))


def finished(plan: Any, **best: float) -> Study:
    """A study whose second trial won with other values."""
    first = plan.defaults()
    values = [first, first | best]
    trials = [
        Trial(cell=plan.trial(one).id, values=one, state="done", curve=(80.0 + place,), seconds=1.0)
        for place, one in enumerate(values)
    ]
    return Study(id=plan.id, plan=plan, trials=tuple(trials))


def test_a_winner_s_values_are_set_by_hand(registry):
    flags = {"tune": 2, "tune_epochs": 3, "search": {"soft.temperature": "1:10:log"}, "tune_batch": 2}
    (plan,) = [one for one in plan_of(registry, **flags).studies if one.strategy.name == "soft"]
    study = finished(plan, **{"soft.temperature": 3.141592653589793})
    cell = study.finals([0, 1])[1]
    again = reproduce(cell, study)
    assert cell.id in shown(again)
    assert again.words == "the values come from a search"
    assert again.search.startswith("kdzoo bench")
    assert plan.id in shown(Reproduction(again.search))


def test_where_tuning_changed_the_recipe_the_command_searches_again(registry):
    flags = {"tune": 2, "tune_recipe": "lr", "pruner": "median", "set": {"recipe.lr": 0.03}, "seeds": 2}
    (plan,) = [one for one in plan_of(registry, **flags).studies if one.strategy.name == "soft"]
    study = finished(plan, **{"recipe.lr": 0.07})
    cell = study.finals([0])[0]
    assert cell.tuned_from is not None
    again = reproduce(cell, study)
    assert plan.id in shown(again)
    assert "searches again" in again.words
    alone = reproduce(cell)
    assert alone.command == ""
    assert "recipe.lr = 0.07" in alone.words


def test_what_a_person_must_supply_is_said(cell, teacher, recipe):
    file = reproduce(
        cell("soft", teacher=teacher(weights="file", recipe=None, strategy=None, seed=None, digest="ab12"))
    )
    assert file.command == ""
    assert "SHA-256 ab12" in file.words
    assert "--teacher-weights ./FILE" in file.words
    plugin = reproduce(cell("mine", distribution="file", revision="cafe01"))
    assert plugin.command == ""
    assert "begins with cafe01" in plugin.words
    assert "--plugin FILE" in plugin.words
    odd = recipe.model_copy(update={"lr": 0.5, "augment": Augment(flip=True)})
    other = reproduce(cell("soft", teacher=teacher(recipe=odd)))
    assert other.command == ""
    assert '"lr": 0.5' in other.words
    folder = reproduce(cell("soft", data=cell().data.model_copy(update={"name": "folder:flowers"})))
    assert folder.command == ""
    assert "folder:flowers" in folder.words


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": None},
        {"kind": "trial"},
        {"student": "two,models"},
        {"params": {"alpha": 0.9, "x y=1": 2.0}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_no_command_can_say_is_said_in_words(cell, changes):
    again = reproduce(cell("soft", **changes))
    assert again.command == ""
    assert again.words


def test_a_teacher_of_another_seed_has_no_command(cell, teacher):
    assert reproduce(cell("soft", teacher=teacher(seed=3))).command == ""


@pytest.mark.parametrize("name", ["ce,soft", "all", "recipe", "<img>", "$(reboot)", "a b", ""])
def test_a_hostile_name_makes_no_command_that_means_something_else(cell, name):
    assert reproduce(cell(name)).command == ""
    assert reproduce(cell("soft", data=cell().data.model_copy(update={"name": f"{name},x"}))).command == ""


@pytest.mark.parametrize("name", ["$(reboot)", "a;b", "`c`", "d'e"])
def test_a_shell_reads_every_name_as_one_word(cell, name):
    again = reproduce(cell("soft", data=cell().data.model_copy(update={"name": name})))
    words = shlex.split(again.command)
    assert words[words.index("--dataset") + 1] == name


def test_a_name_that_looks_like_a_flag_is_none(registry, cell):
    again = reproduce(cell("soft", data=cell().data.model_copy(update={"name": "--out"})))
    assert "--dataset=--out" in shlex.split(again.command)
