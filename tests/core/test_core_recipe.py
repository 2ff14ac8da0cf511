"""Recipes: what a file or a flag may change, and how a change shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdzoo import UsageError
from kdzoo.config import load_bench
from kdzoo.matrix import load_recipe
from kdzoo.yamltext import read_yaml

RECIPE = "epochs: 10\nbatch_size: 8\n"


def recipe(tmp_path: Path, text: str, **changes: Any) -> Any:
    (tmp_path / "r.yaml").write_text(text)
    return load_recipe(str(tmp_path / "r.yaml"), changes)


def test_changes_show_in_the_name_of_a_recipe() -> None:
    quick = load_recipe("quick", {})
    changed = load_recipe("quick", {"lr": 0.2, "augment.flip": True, "epochs": quick.epochs})
    assert changed.name == "quick+flip=True+lr=0.2"
    assert changed == quick.model_copy(
        update={"name": changed.name, "lr": 0.2, "augment": quick.augment.model_copy(update={"flip": True})}
    )


def test_a_change_that_changes_nothing_leaves_the_name() -> None:
    quick = load_recipe("quick", {})
    same = {"epochs": quick.epochs, "lr": quick.lr, "clip_grad": 0, "augment.crop": quick.augment.crop}
    assert load_recipe("quick", same) == quick


@pytest.mark.parametrize("milestones", ["0.5,0.75", "[0.5, 0.75]"])
def test_a_flag_writes_milestones_with_commas(milestones: str) -> None:
    changed = load_recipe("quick", {"schedule": "step", "milestones": milestones})
    assert changed.milestones == (0.5, 0.75)
    assert changed.name == "quick+milestones=0.5,0.75+schedule=step"


def test_a_single_milestone_is_a_number() -> None:
    assert load_recipe("quick", {"schedule": "step", "milestones": 0.5}).milestones == (0.5,)


def test_a_recipe_of_the_users_own_is_called_by_its_file_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert recipe(tmp_path, RECIPE + "lr: 5e-4\n").name == "r"
    assert recipe(tmp_path, RECIPE + "lr: 5e-4\n").lr == 0.0005
    assert recipe(tmp_path, RECIPE + "name: mine\n", lr=1).name == "mine+lr=1.0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 1\n", "batch_size is missing"),
        (RECIPE + "wieght_decay: 1\n", "unknown key 'wieght_decay'; did you mean weight_decay"),
        (RECIPE + "augment: {corp: 3}\n", "unknown key 'corp'; did you mean crop?"),
        (RECIPE + "augment: {crop: -1}\n", "augment.crop must be at least 0, not -1"),
        (RECIPE + "augment: {rotate: 181}\n", "augment.rotate must be at most 180, not 181"),
        (RECIPE + "augment: 3\n", "augment must be a mapping, not 3"),
        (RECIPE + "augment:\n", "augment must be a mapping, not null"),
        (RECIPE + "schedule: spet\n", "schedule must be 'cosine', 'step', 'linear' or 'constant', not 'spet'"),
        (RECIPE + "momentum: 1.0\n", "momentum must be below 1, not 1.0"),
        (RECIPE + "lr: 0\n", "lr must be above 0, not 0"),
        (RECIPE + "lr: fast\n", "lr must be a number, not 'fast'"),
        (RECIPE + "lr: .nan\n", "lr must be a finite number, not nan"),
        (RECIPE + "schedule: step\nmilestones: [0.5, 2]\n", "milestones.1 must be below 1, not 2"),
        (RECIPE + "schedule: step\n", "milestones belong to schedule step, and step needs at least one"),
        (RECIPE + "milestones: [0.5]\n", "milestones belong to schedule step, and step needs at least one"),
        (RECIPE + "name: 3\n", "name must be a text, not 3"),
        (RECIPE + "batch_size: 2\n", "malformed YAML: key 'batch_size' appears twice"),
    ],
)
def test_a_wrong_recipe_is_told_in_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(tmp_path, text)
    where, _, sentence = str(caught.value).partition(": ")
    assert where.removeprefix("recipe ").startswith(str(tmp_path / "r.yaml"))
    assert sentence.startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrr": 1}, "unknown key of the recipe 'lrr'; did you mean lr?"),
        ({"augment.corp": 1}, r"unknown key of the recipe 'augment.corp'; did you mean augment\.crop"),
        ({"name": "mine"}, "unknown key of the recipe 'name'"),
        ({"augment": 3}, "unknown key of the recipe 'augment'; did you mean augment"),
        ({"lr": -1}, "recipe.lr must be above 0, not -1"),
        ({"lr": None}, "recipe.lr must be a number, not null"),
        ({"augment.crop": 0.5}, "recipe.augment.crop must be a whole number, not 0.5"),
        ({"batch_size": True}, "recipe.batch_size must be a whole number, not True"),
        ({"milestones": "soon", "schedule": "step"}, "recipe.milestones must be a number, not 'soon'"),
        ({"schedule": "step"}, "recipe quick: milestones belong to schedule step"),
    ],
)
def test_a_wrong_change_of_a_recipe_is_told_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}"):
        load_recipe("quick", changes)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("{epoch: 3}", "unknown key of the recipe 'epoch'; did you mean epochs?"),
        ("{epochs: 0}", "recipe.epochs must be at least 1, not 0"),
        ("{augment: {crop: 1}}", "unknown key of the recipe 'augment'"),
        ("[epochs]", r"recipe .*r\.yaml: teacher must be a mapping of the recipe's keys to values, not \['epochs'\]"),
    ],
)
def test_what_is_wrong_for_the_teacher_is_told(teacher: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"{RECIPE}teacher: {teacher}\n")
    with pytest.raises(UsageError, match=f"^{message}"):
        load_recipe(str(tmp_path / "r.yaml"), {}, teacher=True)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "quik",
            r"unknown bench 'quik'; did you mean quick\? Shipped: .* quick, zoo \(",
        ),
        ("zzz.", r"unknown bench 'zzz\.'; known: .* zoo \(a file of your own ends in \.yaml\)$"),
        ("zzz", r"unknown bench 'zzz'; known: cifar100, digits, fashion_mnist, imagenet, quick, zoo \("),
        ("missing.yaml", "missing.yaml cannot be read: no such file or directory"),
        ("folder", "folder is no plain file but a folder; give a YAML file"),
        ("latin.yaml", "latin.yaml cannot be read: it is not UTF-8 text"),
        ("a" * 300, "unknown bench"),
        ("a" * 300 + ".yaml", "a+.yaml cannot be read: file name too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yaml").write_bytes("strategies: café\n".encode("latin-1"))
    with pytest.raises(UsageError, match=f"^{message}"):
        load_bench(source, {})


def test_a_shipped_name_wins_over_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").write_text("strategies: soft\n")
    assert "teacher" in read_yaml("bench", "quick")
