from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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
    make_tuned,
    with_teachers,
)
from typer.testing import CliRunner, Result

from kdzoo.cli import app
from kdzoo.drawing import origin_of
from kdzoo.leaderboard.check.published import check_leaderboard
from kdzoo.leaderboard.layout import path_of_record, path_of_study, read_leaderboard
from kdzoo.leaderboard.private import hide_in_command, hide_paths, publishable
from kdzoo.record import Record, parse_record, schema_of
from kdzoo.study import Study

KEPT = Path(__file__).parents[1] / "core" / "records"


def kdzoo(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def changed(record: Record, right: int) -> Record:
    return make_record(record.cell, right, ended="2027-01-01T00:00:00Z")


@pytest.fixture
def quick() -> Iterator[None]:
    """Blank plots, for tests that look at other things."""
    with blank_drawings():
        yield


# What is private


@pytest.mark.parametrize("place", ["local-dir:/home/ann/nets/mine", "local-dir:~/mine", "net:init=/home/ann/w"])
def test_a_cell_that_names_a_place_is_not_published(place: str, tmp_path: Path, quick: None) -> None:
    named = [make_record(make_cell("ce", seed, student=place)) for seed in range(2)]
    store = make_store(tmp_path / "runs", with_teachers(named))
    result = kdzoo("publish", store, "--to", tmp_path / "board")
    assert result.exit_code == 1
    assert "nothing was published; these contain local paths:" in result.stderr
    assert result.stderr.count("names a local path") == 2
    assert not (tmp_path / "board").exists()
    # Whoever brings it there by hand is told by the check.
    folder = make_folder(tmp_path / "board", with_teachers(named))
    assert [fault for fault in check_leaderboard(folder).faults if "names a local path" in fault.reason]


def test_a_folders_model_named_by_its_content_is_published(tmp_path: Path, quick: None) -> None:
    model = "local-dir:test_resnet@0123456789abcdef"
    records = [make_record(make_cell("ce", seed, student=model)) for seed in range(2)]
    store = make_store(tmp_path / "runs", with_teachers(records))
    result = kdzoo("publish", store, "--to", tmp_path / "board")
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("command", "published"),
    [
        ("kdzoo bench --out runs --seeds 3", "kdzoo bench --out OUT --seeds 3"),
        ("kdzoo bench --data-dir=../data", "kdzoo bench --data-dir=DATA"),
        ("kdzoo bench --plugin '/home/ada b/my.py' --seeds 3", "kdzoo bench --plugin PATH/my.py --seeds 3"),
        ("kdzoo bench --teacher-weights=~/w/t.safetensors", "kdzoo bench --teacher-weights=PATH/t.safetensors"),
        (r"kdzoo bench --plugin 'C:\Users\ada\x.py'", "kdzoo bench --plugin PATH/x.py"),
        ("kdzoo bench --config /home/ada.lovelace", "kdzoo bench --config PATH"),
        ("kdzoo bench --set 'a.b=/home/ada=x'", "kdzoo bench --set a.b=PATH"),
        ("kdzoo bench --config '/open quote", "kdzoo bench --config 'PATH quote"),
        ("kdzoo bench --dataset 'fashion_mnist[:5000]'", "kdzoo bench --dataset 'fashion_mnist[:5000]'"),
        ("kdzoo bench --student hf-hub:timm/x --plugin a/b.py", "kdzoo bench --student hf-hub:timm/x --plugin a/b.py"),
        ("kdzoo bench --out", "kdzoo bench --out"),
        ("", ""),
    ],
)
def test_a_command_loses_its_places(command: str, published: str) -> None:
    assert hide_in_command(command) == published
    assert hide_in_command(published) == published


@pytest.mark.parametrize(
    ("reason", "published"),
    [
        ("No such file: '/home/ada/data/x.npz'", "No such file: 'PATH/x.npz'"),
        ("the weights ~/w were changed", "the weights PATH were changed"),
        ("loss 3 / 4 is n/a, see https://example.org/a/b", "loss 3 / 4 is n/a, see https://example.org/a/b"),
        ("cannot map file:///home/ada/x", "cannot map PATH"),
    ],
)
def test_a_reason_loses_its_places(reason: str, published: str) -> None:
    assert hide_paths(reason) == published
    assert hide_paths(published) == published


def test_what_was_measured_stays_and_the_traceback_goes() -> None:
    record = make_record(make_cell("soft"), traceback="File /home/ada/x.py", command="kdzoo bench --out /home/ada")
    published = publishable(record)
    assert (published.traceback, published.command) == ("", "kdzoo bench --out OUT")
    assert published.outcome() == record.outcome()
    assert publishable(published) == published


@pytest.mark.usefixtures("quick")
def test_an_old_record_is_published_in_todays_form(tmp_path: Path) -> None:
    old = parse_record((KEPT / "schema_1.json").read_bytes(), "old")
    store = make_store(tmp_path / "runs", [old])
    kdzoo("publish", store, "--to", tmp_path / "board")
    kdzoo("publish", store, "--to", tmp_path / "board")
    found = read_leaderboard(tmp_path / "board")
    assert [record.record_schema for record in found.records] == [schema_of(old.cell)]
    assert found.records[0].cell == old.cell


# Publishing


@pytest.fixture(scope="module")
def tuned() -> tuple[list[Record], list[Study]]:
    return make_tuned()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tuned: tuple[list[Record], list[Study]]) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("published")
    store = make_store(folder / "runs", *tuned)
    return folder, kdzoo("publish", store, "--to", folder / "board")


@pytest.fixture
def published(first: tuple[Path, Result], tmp_path: Path) -> Path:
    """A copy of a folder that was published from tuned runs."""
    shutil.copytree(first[0] / "board", tmp_path / "board")
    return tmp_path / "board"


def test_publish_says_what_it_copied_and_made(first: tuple[Path, Result]) -> None:
    folder, result = first
    assert result.exit_code == 0
    lines = [line.replace(f"{folder}/", "") for line in result.stdout.splitlines()]
    assert lines == [
        "copied  board/records/digits/resnet10t--test_resnet: 15",
        "copied  board/records/digits/resnet10t--test_resnet/studies: 2",
        "copied  board/records/digits/teachers: 1",
        *(f"made    board/digits/board.{kind}" for kind in ("csv", "html", "json", "md", "tex")),
        *(f"made    board/digits/plots/{name}" for name in (
            "accuracy-parameters.png", "accuracy-parameters.svg", "forest.png", "forest.svg")),
        "made    board/index.html",
        "made    board/index.md",
        "16 records and 2 studies; 18 new, 0 replaced, 0 unchanged",
    ]  # fmt: skip


def test_records_and_studies_are_copied_and_no_weights(
    published: Path, tuned: tuple[list[Record], list[Study]]
) -> None:
    records, studies = tuned
    files = {path for path in content(published) if path.startswith("records/")}
    assert files == {str(path_of_record(one)) for one in records} | {str(path_of_study(one)) for one in studies}
    assert read_leaderboard(published).records == tuple(sorted(records, key=lambda one: one.id))


def test_what_is_published_passes_the_check(published: Path) -> None:
    report = check_leaderboard(published)
    assert (report.faults, report.remarks) == ((), ())


def test_boards_show_their_plots_and_every_variant(published: Path) -> None:
    board = (published / "digits" / "board.md").read_text()
    for path in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", board):
        assert origin_of((published / "digits" / path).read_bytes())
    assert board.count("](plots/") == 2
    rows = json.loads((published / "digits" / "board.json").read_text())["groups"][0]["rows"]
    assert sorted((row["strategy"], row["variant"]) for row in rows) == [
        ("ce", ""), ("fitnets", "default"), ("fitnets", "tuned"), ("soft", "default"), ("soft", "tuned"),
    ]  # fmt: skip
    index = (published / "index.md").read_text()
    assert "[digits](digits/board.md)" in index
    assert "| 93.20 |" in re.sub(r"[ *]+", " ", index)


def test_ranks_are_drawn_where_there_are_pairs_enough(tmp_path: Path) -> None:
    whole = make_rows({"ce": [900, 901], "soft": [910, 911], "fitnets": [905, 906]})
    whole += make_rows({"ce": [800, 801], "soft": [812, 813], "fitnets": [805, 806]}, student="test_vit")
    files = content(make_folder(tmp_path / "board", with_teachers(whole)))
    assert {"digits/plots/ranks.svg", "digits/plots/ranks.png"} <= files.keys()
    assert b"plots/ranks.svg" in files["digits/board.md"]


def test_the_same_again_changes_nothing(published: Path, first: tuple[Path, Result]) -> None:
    before = content(published)
    result = kdzoo("publish", first[0] / "runs", "--to", published)
    assert result.stdout == "16 records and 2 studies; 0 new, 0 replaced, 18 unchanged\n"
    assert content(published) == before


@pytest.mark.usefixtures("quick")
def test_more_runs_add_to_what_is_there_in_any_order(tmp_path: Path) -> None:
    one = make_store(tmp_path / "one", with_teachers(make_rows({"ce": [900, 901], "soft": [910, 911]})))
    two = make_store(tmp_path / "two", with_teachers(make_rows({"ce": [900, 901], "fitnets": [905, 906]})))
    kdzoo("publish", one, "--to", tmp_path / "a")
    before = ids(tmp_path / "a")
    assert kdzoo("publish", two, "--to", tmp_path / "a").exit_code == 0
    assert before < ids(tmp_path / "a")
    assert kdzoo("publish", two, one, "--to", tmp_path / "b").exit_code == 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.usefixtures("quick")
def test_failed_students_stay_visible_and_lose_their_paths(tmp_path: Path) -> None:
    failed = make_failure(make_cell("soft", 1), "cannot read /home/ada/x.npz").model_copy(
        update={"traceback": "File /home/ada/x.py, line 3"}
    )
    records = with_teachers([*make_rows({"ce": [900, 901], "soft": [910]}), failed])
    result = kdzoo("publish", make_store(tmp_path / "runs", records), "--to", tmp_path / "board")
    assert result.exit_code == 0
    files = content(tmp_path / "board")
    assert b"cannot read PATH/x.npz" in files["digits/board.md"]
    assert not [path for path, data in files.items() if b"ada/" in data]
    assert check_leaderboard(tmp_path / "board").faults == ()


@pytest.mark.usefixtures("quick")
def test_trials_and_unfinished_studies_stay_at_home(tmp_path: Path) -> None:
    whole, part = make_study("soft", [50.0, 60.0]), make_study("fitnets", [50.0])
    part = make_study("fitnets", [50.0, 60.0]).model_copy(update={"trials": part.trials})
    trial = make_record(whole.plan.trial(whole.trials[1].values), 600)
    records = with_teachers([*make_rows({"ce": [900], "soft": [910]}), *finals(whole, [920]), trial])
    kdzoo("publish", make_store(tmp_path / "runs", records, [whole, part]), "--to", tmp_path / "board")
    assert ids(tmp_path / "board") == {record.id for record in records} - {trial.id} | {whole.id}


@pytest.mark.usefixtures("quick")
def test_a_contradiction_is_named_and_writes_nothing(published: Path, tmp_path: Path) -> None:
    record = make_record(make_cell("soft", 1), 921)
    store = make_store(tmp_path / "again", with_teachers([changed(record, 999)]))
    before = content(published)
    result = kdzoo("publish", store, "--to", published)
    assert result.exit_code == 1
    assert result.stderr == (
        "error: nothing was published; --replace takes the new results of these:\n"
        f"  record {record.id} (soft resnet10t -> test_resnet on digits, seed 1): "
        "92.10%, evaluation 1 and 99.90%, evaluation 1\n"
    )
    assert content(published) == before
    assert kdzoo("publish", store, "--to", published, "--replace").exit_code == 0
    assert b'"top1":99.9' in content(published)[str(path_of_record(record))]
    assert check_leaderboard(published).faults == ()


def test_two_stores_that_contradict_each_other_are_told_too(tmp_path: Path) -> None:
    records = with_teachers(make_rows({"ce": [900]}))
    one = make_store(tmp_path / "one", records)
    two = make_store(tmp_path / "two", [changed(records[0], 800)])
    assert kdzoo("publish", one, two, "--to", tmp_path / "board").exit_code == 1
    assert not (tmp_path / "board").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("failed_first", [True, False])
def test_a_done_record_goes_before_a_failed_one(failed_first: bool, tmp_path: Path) -> None:
    rows = with_teachers(make_rows({"ce": [900], "soft": [910]}))
    failed = make_failure(rows[1].cell)
    one, two = (rows[0], failed, rows[2]), rows
    for name, records in (("one", one), ("two", two)) if failed_first else (("two", two), ("one", one)):
        assert kdzoo("publish", make_store(tmp_path / name, records), "--to", tmp_path / "board").exit_code == 0
    assert {record.status for record in read_leaderboard(tmp_path / "board").records} == {"done"}


@pytest.mark.usefixtures("quick")
def test_of_two_failures_the_later_one_counts(tmp_path: Path) -> None:
    rows = with_teachers(make_rows({"ce": [900]}))
    cell = make_cell("soft")
    for name, reason, ended in (("a", "late", "2026-03-01"), ("b", "early", "2026-02-01")):
        failed = make_failure(cell, reason).model_copy(update={"ended": ended})
        kdzoo("publish", make_store(tmp_path / name, [*rows, failed]), "--to", tmp_path / "board")
    assert [one.reason for one in read_leaderboard(tmp_path / "board").records if one.reason] == ["late"]


def test_an_unreadable_record_of_the_runs_stops_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "runs", with_teachers(make_rows({"ce": [900, 901]})))
    broken = sorted(store.glob("cells/*/record.json"))[0]
    broken.write_text("{")
    result = kdzoo("publish", store, "--to", tmp_path / "board")
    assert result.exit_code == 1
    assert f"  {broken}: not valid JSON" in result.stderr
    assert not (tmp_path / "board").exists()


@pytest.mark.usefixtures("quick")
def test_what_check_will_find_is_told_and_written(tmp_path: Path) -> None:
    records = with_teachers(make_rows({"ce": [900, 901], "soft": [910]}))
    result = kdzoo("publish", make_store(tmp_path / "runs", records), "--to", tmp_path / "board")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "warning: kdzoo check will report: records/digits/resnet10t--test_resnet: soft alpha"
    )
    assert ids(tmp_path / "board") == {record.id for record in records}


# The folder


def test_refresh_makes_everything_anew(published: Path) -> None:
    before = content(published)
    (published / "digits" / "board.md").write_text("mine")
    (published / "digits" / "plots" / "forest.svg").write_text("<svg/>")
    (published / "index.html").unlink()
    result = kdzoo("publish", "--refresh", "--to", published)
    assert result.exit_code == 0
    assert [line.split("/")[-1] for line in result.stdout.splitlines()[:-1]] == ["board.md", "forest.svg", "index.html"]
    assert content(published) == before
    assert kdzoo("publish", "--to", published).stdout.startswith("16 records and 2 studies;")


def test_what_was_made_of_a_dataset_that_is_gone_is_removed(published: Path) -> None:
    shutil.copytree(published / "digits", published / "gone")
    (published / "records" / "digits" / "teachers" / ".x.json.12.0a1b2c3d").write_text("half")
    result = kdzoo("publish", "--refresh", "--to", published)
    assert f"removed {published}/gone/board.csv" in result.stdout
    assert not (published / "gone").exists()
    assert check_leaderboard(published).faults == ()


@pytest.mark.parametrize("name", ["notes.txt", "digits/mine.html", "records/x"])
def test_a_folder_of_other_files_is_left_alone(name: str, published: Path, first: tuple[Path, Result]) -> None:
    (published / name).write_text("mine")
    (published / "index.md").unlink()
    before = content(published)
    result = kdzoo("publish", first[0] / "runs", "--to", published)
    assert result.exit_code == 1
    assert f"  {name}: is neither a record nor made from records; move it away" in result.stderr
    assert content(published) == before


def test_a_folder_with_an_index_of_its_own_is_left_alone(tmp_path: Path, first: tuple[Path, Result]) -> None:
    (tmp_path / "index.html").write_text("my homepage")
    result = kdzoo("publish", first[0] / "runs", "--to", tmp_path)
    assert (result.exit_code, "index.html: is not kdzoo's" in result.stderr) == (1, True)
    assert content(tmp_path) == {"index.html": b"my homepage"}


def test_nothing_is_written_through_a_link(published: Path, tmp_path: Path, first: tuple[Path, Result]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(published / "digits")
    (published / "digits").symlink_to(outside, target_is_directory=True)
    assert kdzoo("publish", first[0] / "runs", "--to", published).exit_code == 1
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["publish", "none", "--to", "board"], "there is no run directory none; `kdzoo bench --out none` creates it"),
        (["publish", "--to", "board"], "board holds no records to make files from"),
        (["publish", "--refresh", "runs"], "--refresh copies nothing"),
        (["publish", "runs", "--to", "runs"], "runs is a store of runs; give another folder"),
        (["publish", "runs", "--to", "file"], "file is a file; give a folder"),
        (["publish", "empty", "--to", "board"], "empty holds no finished student"),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, usage: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store(Path("runs"), with_teachers(make_rows({"ce": [900]})))
    make_store(Path("empty"), [])
    Path("file").touch()
    before = content(tmp_path)
    assert usage(arguments).startswith(sentence)
    assert content(tmp_path) == before


@pytest.fixture
def usage() -> Callable[..., str]:
    """The sentence of a wrong usage."""
    from kdzoo.errors import UsageError

    def run(arguments: list[str]) -> str:
        with pytest.raises(UsageError) as caught:
            kdzoo(*arguments)
        return str(caught.value)

    return run


def test_hostile_names_act_nowhere(tmp_path: Path) -> None:
    name = "=cmd|' /C calc'!A0<script>alert(1)</script>](javascript:x)\x1b[31m"
    cells = [make_cell(strategy, data=make_cell().data.model_copy(update={"name": name})) for strategy in ("ce", name)]
    folder = make_folder(tmp_path / "board", with_teachers([make_record(cell, 900) for cell in cells]))
    files = content(folder)
    assert check_leaderboard(folder).faults == ()
    slug = "cmd-c-calc-a0-script-alert-1-script-javascript-x-31m"
    assert {Path(path).parts[1] if path.startswith("records") else path.split("/")[0] for path in files} == {
        slug, "index.md", "index.html",
    }  # fmt: skip
    for path, data in files.items():
        if path.endswith((".md", ".html", ".svg", ".tex", ".csv")):
            assert b"\x1b" not in data, path
            assert path.endswith((".csv", ".tex")) or b"<script>alert" not in data, path
    assert all(
        ",=" not in line and not line.startswith("=") for line in files[f"{slug}/board.csv"].decode().split("\n")
    )
    assert "](javascript" not in files["index.md"].decode().replace("\\](javascript", "")
