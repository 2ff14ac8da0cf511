"""Files and flags -> a bench and its recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdzoo import UsageError
from kdzoo.config import BenchConfig, load_bench, parse_ranges, parse_settings
from kdzoo.flags import OPTIONS, split_list
from kdzoo.inputs import parse_size
from kdzoo.matrix import load_recipe
from kdzoo.yamltext import shipped

BENCH = "strategies: soft\ndataset: digits\nteacher: resnet18\nstudent: resnet10t\n"
PAIRED = "strategies: soft\ndataset: digits\npairs:\n  - [t1, s1]\n  - [t2, s1]\n  - [t1, s2]\n"
RECIPE = "epochs: 10\nbatch_size: 8\n"


def bench(tmp_path: Path, text: str, **flags: Any) -> BenchConfig:
    (tmp_path / "b.yaml").write_text(text)
    return load_bench(str(tmp_path / "b.yaml"), flags)


def refused(tmp_path: Path, text: str, **flags: Any) -> str:
    """The sentence by which a bench is refused, without its folder."""
    with pytest.raises(UsageError) as caught:
        bench(tmp_path, text, **flags)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize("name", ["quick", "digits", "zoo", "fashion_mnist", "cifar100", "imagenet"])
def test_shipped_benches_load(name: str) -> None:
    config = load_bench(name, {})
    assert {"ce", "all"} & set(config.strategies)
    assert config.all_pairs()
    load_recipe(config.recipe, {})


@pytest.mark.parametrize("name", ["quick", "cifar240", "clothing", "imagenet100", "modern", "transformer"])
def test_shipped_recipes_load(name: str) -> None:
    assert load_recipe(name, {}).name == name


def test_every_bench_and_recipe_is_tried_here() -> None:
    assert shipped("bench") == ["cifar100", "digits", "fashion_mnist", "imagenet", "quick", "zoo"]
    named = OPTIONS["config"].help.partition("(")[2].partition(")")[0]
    assert sorted(named.split(", ")) == shipped("bench")
    assert shipped("recipes") == ["cifar240", "clothing", "imagenet100", "modern", "quick", "transformer"]


def test_cifar240_is_the_schedule_of_the_literature() -> None:
    recipe = load_recipe("cifar240", {})
    assert (recipe.epochs, recipe.lr, recipe.batch_size, recipe.weight_decay) == (240, 0.05, 64, 5e-4)
    assert [share * recipe.epochs for share in recipe.milestones] == [150, 180, 210]
    assert (recipe.decay, recipe.augment.flip, recipe.augment.crop > 0) == (0.1, True, True)


def test_modern_is_what_its_name_says() -> None:
    recipe = load_recipe("modern", {})
    assert (recipe.optimizer, recipe.schedule) == ("adamw", "cosine")
    assert min(recipe.warmup, recipe.mixup, recipe.label_smoothing, recipe.ema) > 0


def test_quick_is_the_default_bench() -> None:
    assert load_bench("quick", {}).model_dump() == load_bench("quick", {"seeds": None, "set": None}).model_dump()
    assert load_bench("quick", {}).seeds == 5


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    text = BENCH + "seeds: 5\nrecipe: modern\nset:\n  soft.temperature: 2\n  soft.alpha: 0.5\ndevice: cpu\n"
    config = bench(tmp_path, text, seeds=1, strategies="at, rkd,", set={"soft.temperature": 8}, out=None)
    assert (config.seeds, config.strategies, config.recipe, config.device) == (1, ("at", "rkd"), "modern", "cpu")
    assert config.set == {"soft.temperature": 8, "soft.alpha": 0.5}
    assert config.out == "runs"


def test_a_set_flag_wins_over_the_files_key_for_the_same_thing(tmp_path: Path) -> None:
    text = BENCH + "epochs: 30\nprecision: bf16\nset: {recipe.epochs: 20}\n"
    config = bench(tmp_path, text, set={"recipe.epochs": 2, "recipe.precision": "fp32"})
    assert (config.epochs, config.precision) == (None, None)
    assert config.set == {"recipe.epochs": 2, "recipe.precision": "fp32"}
    assert bench(tmp_path, text, epochs=5).epochs == 5
    with pytest.raises(UsageError, match=r"give --epochs or --set recipe\.epochs, not both"):
        bench(tmp_path, text, epochs=5, set={"recipe.epochs": 2})


@pytest.mark.parametrize("dataset", ["digits,'fashion_mnist[:5000]'", "[digits, 'fashion_mnist[:5000]']"])
def test_lists_are_written_with_commas_or_as_yaml(dataset: str, tmp_path: Path) -> None:
    text = BENCH.replace("digits", dataset.replace("'", "") if dataset[0] != "[" else dataset)
    assert bench(tmp_path, text).dataset == ("digits", "fashion_mnist[:5000]")


def test_each_teacher_meets_each_student(tmp_path: Path) -> None:
    config = bench(tmp_path, BENCH, teacher="a,b", student="c, d")
    assert config.all_pairs() == [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]


@pytest.mark.parametrize(
    ("flags", "pairs"),
    [
        ({}, [("t1", "s1"), ("t2", "s1"), ("t1", "s2")]),
        ({"teacher": "x"}, [("x", "s1"), ("x", "s2")]),
        ({"student": "y"}, [("t1", "y"), ("t2", "y")]),
        ({"teacher": "x", "student": "y,z"}, [("x", "y"), ("x", "z")]),
    ],
)
def test_a_model_on_the_command_line_replaces_the_files_pairs(
    flags: dict[str, str], pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    assert bench(tmp_path, PAIRED, **flags).all_pairs() == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BENCH + "sedes: 3\n", "b.yaml: unknown key 'sedes'; did you mean seeds"),
        (BENCH.replace("dataset", "datset"), "b.yaml: unknown key 'datset'; did you mean dataset"),
        ("dataset: digits\n", "b.yaml: strategies is missing"),
        ("strategies: soft\ndataset: digits\nstudent: a\n", "b.yaml: give a teacher and a student"),
        (PAIRED + "teacher: x\n", "b.yaml: give either pairs, or teacher and student"),
        (BENCH + "seeds: 0\n", "b.yaml: seeds must be at least 1, not 0"),
        (BENCH + "seeds: three\n", "b.yaml: seeds must be a whole number, not 'three'"),
        (BENCH + "seeds: 2.0\n", "b.yaml: seeds must be a whole number, not 2.0"),
        (BENCH + "seeds: true\n", "b.yaml: seeds must be a whole number, not True"),
        (BENCH + "seeds:\n", "b.yaml: seeds must be a whole number, not null"),
        (BENCH + "epochs: -1\n", "b.yaml: epochs must be at least 1, not -1"),
        (BENCH + "seeds: 10001\n", "b.yaml: seeds must be at most 10000, not 10001"),
        (BENCH + "epochs: 100001\n", "b.yaml: epochs must be at most 100000, not 100001"),
        (BENCH + "seeds: 2026-01-31\n", "b.yaml: seeds must be a whole number, not '2026-01-31'"),
        (BENCH + "seeds: !!set {a}\n", "b.yaml:5: malformed YAML: the tag '!!set' is not read"),
        (BENCH + "teacher_epochs: 0\n", "b.yaml: teacher_epochs must be at least 1, not 0"),
        (BENCH + "device: gpu\n", "b.yaml: device must be 'auto', 'cpu', 'cuda' or 'mps', not 'gpu'"),
        (BENCH + "precision: fp8\n", "b.yaml: precision must be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
        (BENCH + "rerun: no\n", "b.yaml: rerun must be 'never', 'safe', 'failed' or 'always', not 'no'"),
        (BENCH + "download: yes\n", "b.yaml: download must be true or false, not 'yes'"),
        (BENCH + "recipe: 5\n", "b.yaml: recipe must be a text, not 5"),
        (BENCH + "img_size: 0x3\n", "b.yaml: img_size must be a size in pixels such as 32 or 32x48, not '0x3'"),
        (BENCH + "img_size: 3 x\n", "b.yaml: img_size must be a size in pixels such as 32 or 32x48, not '3 x'"),
        (BENCH + "img_size: [3, 4]\n", "b.yaml: img_size must be a size in pixels such as 32 or 32x48, not [3, 4]"),
        (BENCH + "teacher_weights: trian\n", "b.yaml: teacher_weights: unknown kind of weights 'trian'; did you mean"),
        (BENCH + "set: 3\n", "b.yaml: set must be a mapping, not 3"),
        (BENCH + "set: {soft.t: [1, 2]}\n", "b.yaml: set.soft.t must be a single, finite value, not [1, 2]"),
        (BENCH + "set: {soft.t: .inf}\n", "b.yaml: set.soft.t must be a single, finite value, not inf"),
        (BENCH + "set: {soft.t: .nan}\n", "b.yaml: set.soft.t must be a single, finite value, not nan"),
        (BENCH.replace("soft", "[soft, 3]"), "b.yaml: strategies.1 must be a text, not 3"),
        (BENCH.replace("soft", "{a: b}"), "b.yaml: strategies must be a list, not {'a': 'b'}"),
        (BENCH.replace("soft", "[]"), "b.yaml: strategies must name at least one"),
        (BENCH.replace("digits", "','"), "b.yaml: dataset must name at least one"),
        ("strategies: a\ndataset: b\npairs: [a, b]\n", "b.yaml: pairs must be a list of [teacher, student], not"),
        ("strategies: a\ndataset: b\npairs: [[a, b, c]]\n", "b.yaml: pairs must be a list of [teacher, student], not"),
        ("strategies: a\ndataset: b\npairs: [[a, 3]]\n", "b.yaml: pairs must be a list of [teacher, student], not"),
        ("strategies: a\ndataset: b\npairs: 3\n", "b.yaml: pairs must be a list of [teacher, student], not"),
        ("strategies: &a [*a]\n", "b.yaml: Circular reference"),
    ],
)
def test_a_wrong_bench_is_told_in_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    sentence = refused(tmp_path, text)
    assert sentence.startswith(message)
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, not 0"),
        ({"teacher_epochs": 0}, "--teacher-epochs must be at least 1, not 0"),
        ({"img_size": "0x3"}, "--img-size must be a size in pixels such as 32 or 32x48, not '0x3'"),
        ({"img_size": "-5"}, "--img-size must be a size in pixels such as 32 or 32x48, not '-5'"),
        ({"device": "gpu"}, "--device must be 'auto', 'cpu', 'cuda' or 'mps', not 'gpu'"),
        ({"strategies": " , "}, "--strategies must name at least one"),
        ({"set": {"soft.t": float("inf")}}, "--set soft.t must be a single, finite value, not inf"),
        ({"teacher_weights": "pretraned"}, "--teacher-weights: unknown kind of weights 'pretraned'; did you mean"),
    ],
)
def test_a_wrong_flag_is_named_as_it_was_written(flags: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert refused(tmp_path, BENCH, **flags).startswith(message)


def test_malformed_pairs_are_told_under_a_teacher_flag_too(tmp_path: Path) -> None:
    assert refused(tmp_path, "strategies: a\ndataset: b\npairs: [3]\n", teacher="t").startswith("b.yaml: pairs must be")


@pytest.mark.parametrize("weights", ["auto", "train", "pretrained", "./weights", "w.safetensors", "a/b"])
def test_teacher_weights_are_a_word_or_a_file(weights: str, tmp_path: Path) -> None:
    assert bench(tmp_path, BENCH, teacher_weights=weights).teacher_weights == weights


@pytest.mark.parametrize(("text", "size"), [("32", (32, 32)), (32, (32, 32)), ("32x48", (32, 48)), ("7X9", (7, 9))])
def test_reads_a_size(text: str | int, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "0", "0x3", "3x", "-5", "1x2x3", "3.5", "big", "٣", None, True, [3], "9" * 9999]
)
def test_refuses_what_is_no_size(text: Any) -> None:
    with pytest.raises(ValueError, match="must be a size in pixels"):
        parse_size(text)


def test_the_home_folder_is_found_in_every_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("batch_size: 8\nlr: 0.1\nepochs: 2\n")
    (tmp_path / "bench.yaml").write_text(
        BENCH + "out: ~/runs\ndata_dir: ~/data\nteacher_weights: ~/w.safetensors\nrecipe: ~/mine.yaml\n"
    )
    config = load_bench("~/bench.yaml", {})
    assert config.out == f"{tmp_path}/runs"
    assert config.data_dir == f"{tmp_path}/data"
    assert config.teacher_weights == f"{tmp_path}/w.safetensors"
    assert load_recipe(config.recipe, {}).batch_size == 8
    assert load_bench("~/bench.yaml", {"out": "~nobody-of-this-name/runs"}).out == "~nobody-of-this-name/runs"


def test_splits_a_comma_list() -> None:
    assert split_list(" a, b,,c ,") == ("a", "b", "c")
    assert split_list("") == ()


def test_reads_settings_as_yaml_values() -> None:
    settings = parse_settings(["soft.temperature=2", "recipe.lr = 5e-4", "recipe.augment.flip=true", "a.b=c=d"])
    assert settings == {"soft.temperature": 2, "recipe.lr": 0.0005, "recipe.augment.flip": True, "a.b": "c=d"}
    assert type(settings["soft.temperature"]) is int


def test_nothing_behind_the_sign_is_an_empty_text() -> None:
    assert parse_settings(["recipe.augment.auto=", "a.b= "]) == {"recipe.augment.auto": "", "a.b": ""}
    assert load_recipe("quick", {"augment.auto": ""}) == load_recipe("quick", {})
    with pytest.raises(UsageError, match=r"recipe\.lr must be a number, not ''"):
        load_recipe("quick", {"lr": ""})
    with pytest.raises(UsageError, match=r"--search a\.b=: write strategy\.param=low:high"):
        parse_ranges(["a.b="])


@pytest.mark.parametrize("text", ["soft.temperature", "soft=1", ".a=1", "soft.=1", "=1", ""])
def test_refuses_a_setting_of_another_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"write strategy\.param=value or recipe\.key=value"):
        parse_settings([text])
