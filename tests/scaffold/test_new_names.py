"""Which names `kdzoo new` takes, and what follows from them."""

from __future__ import annotations

import ast
import doctest
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from kdzoo.cli.new import check_free
from kdzoo.errors import UsageError
from kdzoo.registry import Registry
from kdzoo.scaffold.project import FAMILIES, LONGEST_PROJECT_NAME, Names, dataset_files, read_name, strategy_files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my-idea", Names("my-idea", "kdzoo-my-idea", "kdzoo_my_idea", "MyIdea")),
        ("my_idea", Names("my_idea", "kdzoo-my-idea", "kdzoo_my_idea", "MyIdea")),
        ("rkd2", Names("rkd2", "kdzoo-rkd2", "kdzoo_rkd2", "Rkd2")),
        ("a", Names("a", "kdzoo-a", "kdzoo_a", "A")),
        ("tensor", Names("tensor", "kdzoo-tensor", "kdzoo_tensor", "TensorStrategy")),
        ("value-error", Names("value-error", "kdzoo-value-error", "kdzoo_value_error", "ValueErrorStrategy")),
        ("f", Names("f", "kdzoo-f", "kdzoo_f", "FStrategy")),
        ("strategy", Names("strategy", "kdzoo-strategy", "kdzoo_strategy", "StrategyStrategy")),
    ],
)
def test_names_follow_from_one(text: str, expected: Names) -> None:
    assert read_name(text) == expected


def test_a_dataset_has_a_suffix_of_its_own() -> None:
    assert read_name("splits", "dataset").class_name == "SplitsDataset"


def modules(names: Names) -> dict[str, str]:
    """The modules with the class of that name, one of each kind and family."""
    made = {family: strategy_files(names, family) for family in FAMILIES} | {"dataset": dataset_files(names)}
    return {kind: files[0].text for kind, files in made.items()}


def meant() -> set[str]:
    """The names for a plugin of which a class would be called as something in one of the modules is."""
    used: set[str] = set()
    for text in modules(Names("x", "x", "x", "Nobody")).values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.alias):
                used.add(node.asname or node.name)
            elif isinstance(node, ast.ClassDef):
                used.add(node.name)
    split = {(re.sub("(?<=.)(?=[A-Z])", "-", name).lower(), name) for name in used}
    spelled = {text for text, name in split if "".join(part.capitalize() for part in text.split("-")) == name}
    return spelled - {"_"}


def test_no_class_takes_the_name_of_what_its_module_uses() -> None:
    """Each module with each such name for its class runs, has the class, and its examples come out."""
    texts = sorted(meant() - {"nobody"})
    assert {"f", "projection", "adapter", "tensor", "pair-error", "path", "array-data"} <= set(texts)
    for text in texts:
        for family in FAMILIES:
            names = read_name(text)
            module = ModuleType(f"kdzoo_names_{family}")
            sys.modules[module.__name__] = module  # a class is looked up there
            try:
                exec(compile(modules(names)[family], module.__name__, "exec"), vars(module))
                assert vars(module)[names.class_name].name == text
                assert doctest.testmod(module).failed == 0, (text, family)
            finally:
                del sys.modules[module.__name__]
        names = read_name(text, "dataset")
        space: dict[str, type] = {"__name__": "kdzoo_names_dataset"}
        exec(modules(names)["dataset"], space)
        assert len(space[names.class_name]().load(None, False).train) == 600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("MyIdea", "for example myidea"),
        ("my idea", "for example my_idea"),
        ("2nd", "for example my-strategy"),
        ("a--b", "for example a_b"),
        ("-a", "for example a"),
        ("a_", "for example a"),
        ("é", "for example my-strategy"),
        ("../a", "for example a"),
        ("", "for example my-strategy"),
        ("a\n", "for example a"),
        ("a" * (LONGEST_PROJECT_NAME + 1), f"at most {LONGEST_PROJECT_NAME}"),
        ("lambda", "a word of the Python language"),
        ("kdzoo-mine", "leave the kdzoo out"),
        ("kdzoo", "leave the kdzoo out"),
        ("all", "a meaning of its own"),
        ("recipe", "a meaning of its own"),
    ],
)
def test_what_cannot_be_a_name_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_name(text)
    assert said in str(refusal.value)
    assert ". " not in str(refusal.value)


@pytest.mark.parametrize("kind", ["strategies", "datasets"])
def test_every_name_that_plugins_bring_here_is_taken(kind: str) -> None:
    known = {entry.name for entry in getattr(Registry.load(), kind)}
    assert known
    for name in known:
        with pytest.raises(UsageError, match=f"the name '{name}' is taken by "):
            check_free(Names(name, f"kdzoo-{name}", "kdzoo_not_installed", "Any"))


def test_a_name_that_nobody_has_is_free() -> None:
    check_free(read_name("nobodys-own"))


def test_an_installed_package_is_taken() -> None:
    with pytest.raises(UsageError, match=r"the package kdzoo_zoo is already installed: .*pip uninstall kdzoo-zoo"):
        check_free(read_name("zoo"))


def test_names_of_third_parties_are_taken_and_a_broken_plugin_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = """
    import kdzoo

    class Theirs(kdzoo.Dataset):
        name = "theirs"

        def load(self, data_dir, download):
            raise NotImplementedError

    @kdzoo.hookimpl
    def kdzoo_datasets():
        return [Theirs()]
    """
    (tmp_path / "kdzoo_taken_test_plugin.py").write_text(textwrap.dedent(plugin))
    info = tmp_path / "taken_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: taken-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[kdzoo]\ntheirs = kdzoo_taken_test_plugin\nlost = kdzoo_taken_test_nowhere\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="the name 'theirs' is taken by taken-test"):
        check_free(read_name("theirs"))
    assert "lost" in capsys.readouterr().err
    check_free(read_name("others"))


def test_the_command_refuses_a_taken_name_and_writes_nothing(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused("soft") == "the name 'soft' is taken by kdzoo: choose another"
    assert refused("digits", "--dataset") == "the name 'digits' is taken by kdzoo: choose another"
    assert "cannot be a name" in refused("My Idea")
    assert list(tmp_path.iterdir()) == []
