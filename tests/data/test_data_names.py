"""How names are written whose characters would mean something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kdzoo import UsageError
from kdzoo.board.labels import data_text
from kdzoo.config import load_bench
from kdzoo.data.dataset import escape, parse_subset
from kdzoo.data.load import open_data
from kdzoo.flags import split_list
from kdzoo.refs import ModelRef


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("toy", "toy", None),
        ("toy[:5]", "toy", 5),
        (r"folder:a\[b\]", "folder:a[b]", None),
        (r"folder:a\[:5\]", "folder:a[:5]", None),
        (r"folder:a\[:5\][:7]", "folder:a[:5]", 7),
        (r"folder:a\[", "folder:a[", None),
        (r"folder:a\,b[:7]", "folder:a,b", 7),
        ("folder:a,b", "folder:a,b", None),
        (r"folder:C:\pets\small[:7]", r"folder:C:\pets\small", 7),
        (r"folder:\\server\pets", r"folder:\\server\pets", None),
    ],
)
def test_brackets_and_commas_of_a_name(text: str, name: str, count: int | None) -> None:
    assert parse_subset(text) == (name, count)


@pytest.mark.parametrize("text", ["folder:a[b]", r"folder:a\[b]", r"folder:a[:5\]", "a[:0]", "a[:" + "9" * 5000 + "]"])
def test_a_bracket_without_backslash_is_a_subset_or_wrong(text: str) -> None:
    with pytest.raises(UsageError, match=r"a bracket that is part of the name as \\\[ or \\\]$") as caught:
        parse_subset(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["toy", "a[b]", "[", "a[:5]", r"C:\a", "a,b"])
def test_an_escaped_name_comes_back(name: str) -> None:
    assert parse_subset(escape(name)) == (name, None)
    assert parse_subset(escape(name) + "[:12]") == (name, 12)


def test_commas_of_a_list() -> None:
    assert split_list(r"a, folder:b\,c[:5] ,, d\[e\],C:\x") == ("a", "folder:b,c[:5]", r"d\[e\]", r"C:\x")
    flags = {"dataset": r"folder:a\,b,digits", "teacher": r"local-dir:/a\,b,test_vit"}
    config = load_bench("quick", flags)
    assert config.dataset == ("folder:a,b", "digits")
    assert config.teacher == ("local-dir:/a,b", "test_vit")


def test_a_yaml_list_needs_no_backslash_for_commas(tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(
        "teacher: test_vit\nstudent: test_resnet\nstrategies: soft\ndataset: ['folder:a,b', 'folder:c\\[1\\]']\n"
    )
    assert load_bench(str(file), {}).dataset == ("folder:a,b", r"folder:c\[1\]")


def test_colons_of_a_model() -> None:
    ref = ModelRef.parse(r"local-dir:C\:/nets:depth=2")
    assert (ref.name, ref.args) == ("local-dir:C:/nets", {"depth": 2})
    assert str(ref) == r"local-dir:C\:/nets:depth=2"
    assert ModelRef.parse(str(ref)) == ref
    assert str(ModelRef.parse("hf-hub:timm/x")) == "hf-hub:timm/x"


def test_a_folder_with_odd_characters_keeps_its_name(write_folder: Callable[..., None], tmp_path: Path) -> None:
    root = tmp_path / "cats, dogs [1]"
    write_folder(root, {"train": 12, "test": 2})
    ref = open_data(rf"folder:{escape(str(root))}[:20]", pytest.fail, img_size=(8, 8)).ref
    assert (ref.name, ref.fit, ref.tune) == (r"folder:cats, dogs \[1\][:20]", 18, 2)
    assert data_text(ref).startswith("18 fit, 2 tune (a stratified 20 of the training samples)")
    # Its name opens it again, from the folder that holds it.
    again = open_data(ref.name, pytest.fail, data_dir=tmp_path, img_size=(8, 8))
    assert again.ref == ref
