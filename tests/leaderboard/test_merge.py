from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from folders import (
    blank_drawings,
    content,
    finals,
    ids,
    make_cell,
    make_failure,
    make_folder,
    make_record,
    make_rows,
    make_store,
    make_study,
    measures,
    with_teachers,
)
from typer.testing import CliRunner, Result

from kdzoo.cli import app
from kdzoo.errors import UsageError
from kdzoo.leaderboard.check.published import check_leaderboard
from kdzoo.leaderboard.layout import path_of_record, read_leaderboard
from kdzoo.measures import hits
from kdzoo.record import Record


def merge(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, ["merge", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ada() -> list[Record]:
    return with_teachers(make_rows({"ce": [900, 901], "soft": [910, 911]}))


def ben() -> list[Record]:
    return with_teachers(make_rows({"ce": [900, 901], "fitnets": [905, 906]}))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with blank_drawings():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ada's and Ben's records, published."""
    path = tmp_path_factory.mktemp("folders")
    make_folder(path / "ada", ada())
    make_folder(path / "ben", ben())
    return path


@pytest.fixture
def here(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of both, which is the working directory."""
    shutil.copytree(folders, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_two_folders_become_one_that_passes(here: Path) -> None:
    before = content(here)
    result = merge("ada", "ben", "--to", "both")
    assert result.exit_code == 0
    assert result.stdout.endswith("7 records and 0 studies; 7 new, 0 replaced, 3 unchanged\n")
    assert ids(here / "both") == {record.id for record in [*ada(), *ben()]}
    assert check_leaderboard(here / "both").faults == ()
    merge("ben", "ada", "--to", "other")
    assert content(here / "other") == content(here / "both")
    assert {path: data for path, data in content(here).items() if path.startswith(("ada", "ben"))} == before


def test_without_a_folder_the_second_is_added_to_the_first(here: Path) -> None:
    theirs = content(here / "ben")
    assert merge("ada", "ben").exit_code == 0
    assert ids(here / "ada") == {record.id for record in [*ada(), *ben()]}
    assert content(here / "ben") == theirs
    assert check_leaderboard(here / "ada").faults == ()


def test_runs_are_as_good_as_a_published_folder(here: Path) -> None:
    private = {"traceback": "x", "command": "kdzoo bench --out runs"}
    make_store(here / "runs", [record.model_copy(update=private) for record in ben()])
    assert merge("ada", "runs", "--to", "one").exit_code == 0
    assert merge("runs", "ada", "--to", "two").exit_code == 0
    assert ids(here / "one") == ids(here / "two") == {record.id for record in [*ada(), *ben()]}
    assert "--out OUT" in "".join(record.command for record in read_leaderboard(here / "two").records)
    assert not [data for path, data in content(here / "one").items() if "safetensors" in path or b"--out runs" in data]


def test_studies_are_united_and_seconds_do_not_contradict(here: Path) -> None:
    study = make_study("soft", [50.0, 60.0])
    slower = study.model_copy(
        update={"trials": tuple(trial.model_copy(update={"seconds": 9.0}) for trial in study.trials)}
    )
    winners = finals(study, [930, 931])
    make_folder(here / "one", [*ada(), *winners], [study])
    make_folder(here / "two", [*ada(), *winners], [slower])
    assert merge("one", "two").exit_code == 0
    assert read_leaderboard(here / "one").studies == (study,)


CONTRADICTION = "(soft resnet10t -> test_resnet on digits, seed 1): 91.10%, evaluation 1 and 95.00%, evaluation 1"


def test_contradictions_are_listed_and_nothing_is_written(here: Path) -> None:
    other = make_record(make_cell("soft", 1), 950)
    make_folder(here / "liar", [*ada()[:3], other, ada()[4]])
    before = content(here)
    result = merge("ada", "liar", "--to", "both")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: nothing was merged; --prefer first or --prefer second decides these:",
        f"  record {other.id} {CONTRADICTION}",
    ]
    assert merge("ada", "liar").exit_code == 1
    assert content(here) == before


@pytest.mark.parametrize(("prefer", "right"), [("first", 911), ("second", 950)])
def test_a_side_may_be_preferred(prefer: str, right: int, here: Path) -> None:
    other = make_record(make_cell("soft", 1), 950)
    make_folder(here / "liar", [*ada()[:3], other, ada()[4]])
    assert merge("ada", "liar", "--to", "both", "--prefer", prefer).exit_code == 0
    kept = {record.id: record for record in read_leaderboard(here / "both").records}[other.id]
    assert kept.test is not None
    assert hits(kept.test) == right
    assert check_leaderboard(here / "both").faults == ()


def test_studies_that_contradict_are_listed(here: Path) -> None:
    one, two = make_study("soft", [50.0, 60.0]), make_study("soft", [50.0, 61.0])
    assert one.id == two.id
    for name, study in (("one", one), ("two", two)):
        make_folder(here / name, [*ada(), *finals(study, [930, 931])], [study])
    result = merge("one", "two")
    assert result.exit_code == 1
    assert (
        f"study {one.id} (soft resnet10t -> test_resnet on digits): its trials gave other results: trials["
        in result.stderr
    )


def test_a_done_record_goes_before_a_failed_one(here: Path) -> None:
    make_folder(here / "failed", [*ada()[:3], make_failure(make_cell("soft", 1)), ada()[4]])
    for one, two in (("ada", "failed"), ("failed", "ada")):
        assert merge(one, two, "--to", f"{one}-{two}").exit_code == 0
        assert {record.status for record in read_leaderboard(here / f"{one}-{two}").records} == {"done"}


def test_what_would_not_pass_together_is_not_written(here: Path) -> None:
    """Two trainings of one teacher on different machines are different teachers, and their students do not compare."""
    theirs = []
    for record in ben():
        taught = record.teacher
        update = {"teacher": taught.model_copy(update={"test": measures(970)})} if taught else {"test": measures(970)}
        theirs.append(record.model_copy(update=update))
    make_folder(here / "theirs", theirs)
    assert merge("ada", "theirs", "--to", "both").exit_code == 1
    result = merge("ada", "theirs", "--to", "both", "--prefer", "first")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: nothing was merged; together they would not pass `kdzoo check`:\n")
    assert "had another teacher" in result.stderr
    assert not (here / "both").exists()


def test_more_seeds_of_one_are_told(here: Path) -> None:
    make_folder(here / "more", with_teachers(make_rows({"ce": [900, 901, 902], "fitnets": [905, 906, 907]})))
    result = merge("ada", "more", "--to", "both")
    assert result.exit_code == 1
    assert "soft alpha=0.9 temperature=4: 2 seeds" in result.stderr


def test_a_folder_without_a_finished_student_is_wrong_usage(here: Path) -> None:
    make_store(here / "empty", [])
    with pytest.raises(UsageError, match="empty holds no finished student, so there is nothing of it to merge"):
        merge("ada", "empty")


def test_what_cannot_be_read_stops_it(here: Path) -> None:
    path = here / "ben" / path_of_record(ben()[2])
    path.write_text("{")
    result = merge("ada", "ben", "--to", "both")
    assert result.exit_code == 1
    assert f"  ben/{path_of_record(ben()[2])}: not valid JSON" in result.stderr
    assert not (here / "both").exists()


def nudged(record: Record, off: float) -> Record:
    """The record with another NLL of its teacher, and of itself."""
    changes: dict[str, Any] = {"test": record.test and record.test | {"nll": record.test["nll"] + off}}
    if record.teacher is not None:
        test = record.teacher.test | {"nll": record.teacher.test["nll"] + off}
        changes["teacher"] = record.teacher.model_copy(update={"test": test})
    return record.model_copy(update=changes)


def test_two_machines_round_otherwise(here: Path) -> None:
    make_folder(here / "other", [nudged(record, 1e-15) for record in ben()])
    result = merge("ada", "other", "--to", "both")
    assert (result.exit_code, result.stderr) == (0, "")
    assert ids(here / "both") == {record.id for record in [*ada(), *ben()]}
    assert check_leaderboard(here / "both").faults == ()


def test_what_contradicts_is_printed(here: Path) -> None:
    make_folder(here / "other", [nudged(record, 0.25) for record in ben()])
    result = merge("ada", "other", "--to", "both")
    assert result.exit_code == 1
    told = [line.strip() for line in result.stderr.splitlines()[1:]]
    assert len(told) == 3
    (ce,) = (line for line in told if line.startswith(f"record {ben()[0].id} "))
    assert ce == (
        f"record {ben()[0].id} (ce resnet10t -> test_resnet on digits, seed 0): 90.00%, evaluation 1 in both, and "
        "teacher.test.nll 0.5 and 0.75, test.nll 0.5 and 0.75"
    )


@pytest.mark.parametrize("damage", ["link", "name", "huge"])
def test_a_hostile_store_is_told(damage: str, here: Path) -> None:
    store = make_store(here / "runs", ben())
    victim = store / "cells" / ben()[0].id
    if damage == "link":
        shutil.move(victim, here / "outside")
        victim.symlink_to(here / "outside", target_is_directory=True)
    elif damage == "name":
        victim.rename(victim.with_name("0" * 16))
    else:
        (victim / "record.json").write_text("[" * (1 << 21))
    result = merge("ada", "runs", "--to", "both")
    assert result.exit_code == 1
    words = {
        "link": f"runs/cells/{victim.name}: is a symbolic link, which is not followed",
        "name": f"runs/cells/{'0' * 16}/record.json: is misplaced: it holds {victim.name}",
        "huge": f"runs/cells/{victim.name}/record.json: is larger than 1,048,576 bytes",
    }
    assert words[damage] in result.stderr


@pytest.mark.parametrize("name", ["cells", "studies"])
def test_the_folders_of_a_store_are_no_links(name: str, here: Path) -> None:
    store = make_store(here / "runs", ben(), [make_study("soft", [90.0, 60.0])])
    shutil.move(store / name, here / "outside")
    (store / name).symlink_to(here / "outside", target_is_directory=True)
    result = merge("ada", "runs", "--to", "both")
    assert result.exit_code == 1
    assert f"runs/{name}: is a symbolic link, which is not followed" in result.stderr
    assert not (here / "both").exists()


def test_all_records_together_have_a_bound(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdzoo.leaderboard.untrusted.MOST_IN_ALL", 5000)
    monkeypatch.setattr("kdzoo.leaderboard.union.MOST_FILES", 4)
    make_store(here / "runs", ben())
    result = merge("ada", "runs", "--to", "both")
    assert result.exit_code == 1
    assert [line.strip() for line in result.stderr.splitlines()[1:]] == [
        "ada/records: holds more than 5,000 bytes of records and studies, and the rest is not read",
        "runs/cells: the folder holds more than 4 files, and the rest is not read",
        "runs/cells: holds more than 5,000 bytes of records and studies, and the rest is not read",
    ]
    found = read_leaderboard(here / "ada")
    assert 1 <= len(found.records) < len(ada())
    assert len(found.faults) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ada", "none"], "none is neither a store of runs nor a published folder"),
        (["runs", "ada"], "runs is a store of runs, and nothing is merged into those; give a folder with --to"),
        (["ada", "runs", "--to", "ben"], "ben holds records already; give a new or an empty folder"),
        (["ada", "ben", "--prefer", "ada"], "unknown side to prefer 'ada'; known: first, second"),
        (["ada", "ben", "--to", "runs"], "runs is a store of runs; give another folder"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], sentence: str, here: Path) -> None:
    make_store(here / "runs", ben())
    before = content(here)
    with pytest.raises(UsageError) as caught:
        merge(*arguments)
    assert str(caught.value).startswith(sentence)
    assert content(here) == before
