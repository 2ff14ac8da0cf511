"""The code on the pages runs: every Python block, every strategy in a real training, every file that is shown."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from docs_pages import blocks, execute, run_kdzoo, shown_commands, write_files
from safetensors.torch import load_file

from kdzoo.data.load import LoadedData, open_data
from kdzoo.record import Record
from kdzoo.registry import Registry
from kdzoo.store import Store

SMALL = ("--teacher", "test_resnet", "--student", "test_resnet", "--dataset", "digits[:600]", "--seeds", "1")
SHORT = (*SMALL, "--epochs", "1", "--teacher-epochs", "3")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store, so that the teacher is trained once for all pages."""
    return tmp_path_factory.mktemp("docs") / "runs"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def page_record(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The record of the strategy that docs/strategies.md trains, by the page's own command."""
    folder = tmp_path_factory.mktemp("page")
    write_files("docs/strategies.md", folder)
    (command,) = [line for line in shown_commands("docs/strategies.md") if "--plugin" in line]
    # Another test may have trained it in this store, otherwise than the page says.
    before = {record.id for record in _records(runs, "embedding", "file")} if runs.exists() else set()
    board = run_kdzoo(command.replace("--plugin ", f"--plugin {folder}/"), "--out", str(runs))
    (record,) = [record for record in _records(runs, "embedding", "file") if record.id not in before]
    assert "embedding beta=1" in board
    return record


def _records(runs: Path, strategy: str, distribution: str) -> list[Record]:
    return [
        record
        for record in Store.open(runs).records()
        if (record.cell.strategy.name, record.cell.strategy.distribution) == (strategy, distribution)
    ]


def _digits() -> LoadedData:
    return open_data("digits[:600]", Registry.load().find_dataset)


def test_readme_plugin_has_twenty_lines_and_trains(runs: Path, workshop: Path) -> None:
    (plugin,) = blocks("README.md", "python")
    assert len([line for line in plugin.text.splitlines() if line.strip()]) <= 20
    write_files("README.md", workshop)
    (command,) = [line for line in shown_commands("README.md") if "--plugin" in line]
    run_kdzoo(command, *SHORT, "--out", str(runs))
    (record,) = _records(runs, "logit_matching", "file")
    assert record.status == "done"
    assert record.cell.strategy.params == {"beta": 0.5}
    assert record.curve[0].terms["logits"] > 0


def test_page_command_trains_its_plugin_for_one_epoch(page_record: Record) -> None:
    assert page_record.status == "done"
    assert [line.epoch for line in page_record.curve] == [0]
    assert set(page_record.curve[0].terms) == {"ce", "cosine"}
    assert page_record.adapter_parameters == 96 * 96


@pytest.mark.exhaustive
def test_strategies_page_runs_and_all_its_strategies_train(runs: Path, workshop: Path) -> None:
    execute("docs/strategies.md")
    # One file of all blocks; the last one stands for a file of a package that is not there.
    text = "\n\n".join(block.text for block in blocks("docs/strategies.md", "python")[:-1])
    Path("all_of_them.py").write_text(text, encoding="utf-8")
    names = re.findall(r'^    name = "(\w+)"', text, re.MULTILINE)
    assert len(names) == 8
    asked = ["--epochs", "2", "--teacher-epochs", "3", "--out", str(runs)]
    run_kdzoo(f"kdzoo bench --plugin all_of_them.py --strategies {','.join(names)}", *SMALL, *asked)
    for name in names:
        record = max(_records(runs, name, "file"), key=lambda record: len(record.curve))
        assert (name, record.status, record.reason) == (name, "done", "")
        assert len(record.curve) == 2


def test_package_of_the_strategies_page_is_found_and_trains(
    runs: Path, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's package as an installer would leave it: its files, and its metadata with the entry points."""
    write_files("docs/strategies.md", workshop)
    shutil.copy("embedding.py", "kdzoo_embedding/embedding.py")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    metadata = workshop / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["kdzoo"].items())
    (metadata / "entry_points.txt").write_text(f"[kdzoo]\n{points}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(workshop))
    try:
        listed = run_kdzoo("kdzoo plugins")
        assert re.search(r"embedding +kdzoo-embedding +0\.1\.0 +embedding +- +1\.0 +ok", listed), listed
        run_kdzoo("kdzoo bench --strategies embedding", *SHORT, "--out", str(runs))
    finally:
        for module in [name for name in sys.modules if name.partition(".")[0] == "kdzoo_embedding"]:
            del sys.modules[module]
    (record,) = _records(runs, "embedding", "kdzoo-embedding")
    assert record.status == "done"
    assert record.environment.versions["kdzoo-embedding"] == "0.1.0"


@pytest.mark.exhaustive
def test_commands_of_the_leaderboards_page_work_one_after_the_other(
    runs: Path, workshop: Path, page_record: Record
) -> None:
    """The page's commands as they stand; only the benches are made small, and get a teacher as the page says."""
    (teacher,) = [record for record in Store.open(runs).records() if record.cell.kind == "teacher"]
    shutil.copytree(runs / "cells" / teacher.id, Path("runs/digits/cells") / teacher.id)
    shutil.copytree(runs / "teachers", "runs/digits/teachers")
    small = (*SHORT, "--tune", "1", "--tune-epochs", "1", "--strategies", "soft")
    shown = shown_commands("docs/leaderboards.md")
    assert {command.split()[1] for command in shown} == {"bench", "publish", "check", "merge", "run-cell"}
    for as_shown in shown:
        # The shell's part: the pattern stands for the records, here those of the small bench.
        records = " ".join(sorted(map(str, Path("leaderboards/records").glob("*/*--*/*.json"))))
        command = as_shown.replace("leaderboards/records/digits/resnet10t--test_resnet/*.json", records)
        if command.startswith("kdzoo merge leaderboards theirs"):
            shutil.copytree("leaderboards", "theirs")
        if command.endswith("--out mine"):
            shutil.copytree("runs/digits", "mine")  # so that it finds its cells
        said = run_kdzoo(command, *(small if command.startswith("kdzoo bench") else ()))
        assert not command.startswith("kdzoo check") or "no faults" in said or '"faults": []' in said, said
    assert Path("both/digits-600/board.html").read_bytes() == Path("leaderboards/digits-600/board.html").read_bytes()


def test_data_page_runs_and_its_dataset_opens(workshop: Path) -> None:
    classes = execute("docs/data.md")["Stripes"]().load(None, False).classes
    write_files("docs/data.md", workshop)
    for command in shown_commands("docs/data.md"):
        if command.startswith("kdzoo data"):
            run_kdzoo(command)
    shown = run_kdzoo("kdzoo data stripes --plugin stripes.py")
    assert f"classes      2: {', '.join(classes)}" in shown
    assert "fit          720 images" in shown
    assert Path("stripes.png").stat().st_size > 0


def test_models_page_loads_a_trained_student_with_timm(runs: Path, workshop: Path, page_record: Record) -> None:
    shutil.copy(runs / "cells" / page_record.id / "student.safetensors", "student.safetensors")
    page = execute("docs/models.md")
    data = _digits()
    assert [*page["header"]["mean"], *page["header"]["std"]] == pytest.approx([*data.mean, *data.std])
    assert page["header"]["cell"] == page_record.id
    assert isinstance(page["model"], torch.nn.Module)
    assert page["model"].state_dict().keys() == load_file("student.safetensors").keys()
    assert page["header"]["create_model"] == {"model_name": "test_resnet", "num_classes": 10, "in_chans": 1}
