"""What `kdzoo new` writes, where, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import Result

from kdzoo.cli.new import write_project
from kdzoo.errors import UsageError
from kdzoo.scaffold.project import FAMILIES

STRATEGY = {
    "kdzoo_mine/strategy.py",
    "kdzoo_mine/__init__.py",
    "kdzoo_mine/py.typed",
    "tests/test_strategy.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".gitignore",
    ".github/workflows/tests.yml",
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_tells_what_it_wrote_and_what_to_type_next(new: Callable[..., Result], tmp_path: Path) -> None:
    result = new("mine")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["kdzoo-mine"]
    assert set(files(tmp_path / "kdzoo-mine")) == STRATEGY
    first, *listed, blank, now, one, two, three, four = result.stdout.splitlines()
    assert first == "kdzoo-mine holds the strategy mine:"
    assert {line.split()[0] for line in listed} == STRATEGY
    assert (blank, now) == ("", "Now type:")
    assert one.strip() == "cd kdzoo-mine"
    assert two.strip() == 'pip install -e ".[test]"'
    assert three.strip() == "python -m pytest"
    assert four.strip() == "kdzoo bench --strategies mine,soft"


def test_a_dataset_has_files_and_commands_of_its_own(new: Callable[..., Result], tmp_path: Path) -> None:
    result = new("mine", "--dataset", "--dir", "a b")
    assert result.exit_code == 0, result.output
    assert set(files(tmp_path / "a b")) == {name.replace("strategy.py", "dataset.py") for name in STRATEGY}
    assert '\n  cd "a b"\n' in result.stdout
    assert result.stdout.splitlines()[-1].strip() == "kdzoo bench --dataset mine --strategies soft"


def test_the_workflow_runs_the_tests_and_the_kit(new: Callable[..., Result], tmp_path: Path) -> None:
    new("mine")
    text = (tmp_path / "kdzoo-mine" / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    runs = [step["run"] for step in yaml.safe_load(text)["jobs"]["tests"]["steps"] if "run" in step]
    asked = ["pytest", "pytest --pyargs kdzoo.testing --strategy mine", "kdzoo check-strategy mine"]
    assert runs[-4:] == ['pip install -e ".[test]"', *asked]


def test_families_start_from_different_losses(new: Callable[..., Result], tmp_path: Path) -> None:
    losses = set()
    for family in FAMILIES:
        assert new("mine", "--family", family, "--dir", family).exit_code == 0
        text = (tmp_path / family / "kdzoo_mine" / "strategy.py").read_text(encoding="utf-8")
        assert f'family = "{family}"' in text
        losses.add(text.partition("class Mine(")[0])
    assert len(losses) == len(FAMILIES) == 5


def test_response_is_the_default(new: Callable[..., Result], tmp_path: Path) -> None:
    new("mine", "--dir", "one")
    new("mine", "--family", "response", "--dir", "two")
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_wrong_options_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert refused("mine", "--family", "attentoin") == "unknown family 'attentoin'; did you mean attention?"
    assert refused("mine", "--dataset", "--family", "feature").startswith("--family is for strategies")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_stays_the_same_folder(new: Callable[..., Result], tmp_path: Path) -> None:
    before = tmp_path.stat().st_ino
    assert new("mine", "--dir", ".").exit_code == 0
    assert set(files(tmp_path)) == STRATEGY
    assert tmp_path.stat().st_ino == before


def test_folders_above_are_made(new: Callable[..., Result], tmp_path: Path) -> None:
    assert new("mine", "--dir", "a/b/c").exit_code == 0
    assert set(files(tmp_path / "a/b/c")) == STRATEGY


@pytest.mark.parametrize(
    ("folder", "shown"),
    [("a b", '"a b"'), ("a$b", "'a$b'"), ("a'b", '"a\'b"'), ('a"b', "'a\"b'"), ("a/b-c_d.e", "a/b-c_d.e")],
)
def test_the_folder_is_quoted_where_it_must_be(
    folder: str, shown: str, new: Callable[..., Result], tmp_path: Path
) -> None:
    """In double quotes, which other shells than those of POSIX take too, as far as these mean what is written."""
    result = new("mine", "--dir", folder)
    assert f"\n  cd {shown}\n" in result.stdout
    assert (tmp_path / folder / "pyproject.toml").exists()


@pytest.mark.parametrize(("folder", "place"), [("sub/..", "."), ("a/../b", "b"), ("./c/.", "c")])
def test_dots_in_the_folder_are_taken_out_first(
    folder: str, place: str, new: Callable[..., Result], tmp_path: Path
) -> None:
    result = new("mine", "--dir", folder)
    assert result.exit_code == 0, result.output
    assert set(files(tmp_path)) == {f"{place}/{name}".removeprefix("./") for name in STRATEGY}
    assert not (tmp_path / "sub").exists()
    assert not (tmp_path / "a").exists()
    assert result.stdout.startswith(f"{place} holds the strategy mine:\n")
    assert ("\n  cd " in result.stdout) == (place != ".")


def test_a_folder_above_what_it_names_is_written_whole(tmp_path: Path) -> None:
    write_project(tmp_path / "sub" / "..", {"a/b": "1", "c": "2"})
    assert files(tmp_path) == {"a/b": b"1", "c": b"2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


@pytest.mark.parametrize("there", ["README.md", "notes.txt", ".git"])
def test_a_folder_that_holds_something_is_left_alone(there: str, refused: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "kdzoo-mine"
    folder.mkdir()
    (folder / there).write_text("mine")
    said = refused("mine")
    assert said.startswith(f"{folder} holds {there}, and nothing is overwritten: ")
    assert files(tmp_path) == {f"kdzoo-mine/{there}": b"mine"}


def test_a_second_run_is_refused_and_names_what_is_there(
    new: Callable[..., Result], refused: Callable[..., str], tmp_path: Path
) -> None:
    new("mine")
    (tmp_path / "kdzoo-mine" / "README.md").write_text("edited")
    before = files(tmp_path)
    assert "holds .github, .gitignore, LICENSE and 4 more" in refused("mine")
    assert files(tmp_path) == before


def test_a_file_or_a_dangling_link_in_the_way_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        assert refused("mine", "--dir", name) == f"{tmp_path / name} is a file: name another folder with --dir"
    assert "cannot be written" in refused("mine", "--dir", "file/below")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_where_writing_fails(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last move or write fails, as on a full disk."""
    folder = tmp_path / "new"
    if there:
        folder.mkdir()
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if Path(target).name in ("new", "z"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(UsageError, match="new cannot be written: the disk is full"):
        write_project(folder, {"a/b": "1", "c": "2", "z": "3"})
    assert [path.name for path in tmp_path.rglob("*")] == (["new"] if there else [])
