"""Workers open the bench's own data and plugins, with processes that decode images where there are files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_lab import prepare
from toy_bench import STUDENT, by_strategy, kdzoo, outcomes

from kdzoo.bench.executors.pool import threads_for
from kdzoo.bench.executors.worker import Datasets, LabSettings, PluginFile, check_cell
from kdzoo.config import BenchConfig
from kdzoo.data.decoding import WORTH_WORKERS
from kdzoo.errors import KdzooError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many small files as are decoded by processes of their own."""
    folder = tmp_path_factory.mktemp("pictures")
    draw = np.random.default_rng(0)
    for split, count in (("train", WORTH_WORKERS + 80), ("test", 40)):
        for number in range(count):
            label = number % 2
            place = folder / split / ("dark", "bright")[label]
            place.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 60, (8, 8, 3)) + 190 * label
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder


@pytest.mark.exhaustive
def test_a_worker_may_have_processes_that_decode(pictures: Path) -> None:
    arguments = (
        "bench", "--dataset", f"folder:{pictures}", "--img-size", 8, "--teacher", "test_resnet", "--student", STUDENT,
        "--strategies", "soft", "--seeds", 1, "--epochs", 1, "--teacher-epochs", 2, "--device", "cpu",
        "--set", "recipe.batch_size=64",
    )  # fmt: skip
    assert kdzoo(*arguments, "--out", "one").code == 0
    result = kdzoo(*arguments, "--out", "two", "--workers", 2)
    assert result.code == 0, result.err
    assert by_strategy(Path("two"))["soft"].status == "done"
    assert outcomes(Path("two")) == outcomes(Path("one"))


def test_a_plugin_file_is_taken_as_it_was_read(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("first")
    plugin = PluginFile.read(path)
    assert plugin.here() == path
    path.write_text("second")
    other = plugin.here()
    assert (other.name, other.read_text()) == ("own.py", "first")
    path.unlink()
    assert plugin.here().read_text() == "first"


CONFIG = {"strategies": "soft", "dataset": "digits[:120]", "teacher": "test_resnet", "student": "test_resnet"}


def test_a_lab_is_made_again_from_its_settings(tmp_path: Path) -> None:
    bench = prepare(tmp_path, ["soft"], dataset="digits[:120]", epochs=1)
    settings = LabSettings.of(bench.lab, BenchConfig(**CONFIG))
    lab = settings.make()
    assert (lab.store.path, lab.device, lab.command) == (tmp_path, torch.device("cpu"), bench.lab.command)
    assert lab.started == bench.lab.started
    cell = bench.plan.cells[-1]
    assert len(lab.data) == 0
    check_cell(cell, lab)
    assert list(lab.data) == [cell.data]


def test_other_data_or_another_revision_of_a_strategy_are_refused(tmp_path: Path) -> None:
    bench = prepare(tmp_path, ["soft"], dataset="digits[:120]", epochs=1)
    settings = LabSettings.of(bench.lab, BenchConfig(**CONFIG))
    cell = bench.plan.cells[-1]
    other = cell.data.model_copy(update={"fingerprint": "0" * 16})
    with pytest.raises(
        KdzooError,
        match=r"the dataset digits\[:120\] on .* is not the dataset that the cell was planned",
    ):
        Datasets(settings, bench.lab.registry)[other]
    old = cell.model_copy(update={"strategy": cell.strategy.model_copy(update={"revision": "0"})})
    with pytest.raises(KdzooError, match=r"the strategy kdzoo:soft on .* has the revision"):
        check_cell(old, settings.make())


def test_another_version_of_kdzoo_is_refused(tmp_path: Path) -> None:
    bench = prepare(tmp_path, ["soft"], dataset="digits[:120]", epochs=1)
    settings = LabSettings.of(bench.lab, BenchConfig(**CONFIG))
    with pytest.raises(KdzooError, match=r"and the bench is of 0\.0\.0; install the same version on all machines"):
        dataclasses.replace(settings, kdzoo="0.0.0").make()


@pytest.mark.parametrize(
    ("asked", "cores", "processes", "threads"),
    [("", 8, 2, 4), ("", 8, 3, 2), ("", 2, 4, 1), ("1", 8, 2, 1), ("6", 8, 1, 6), ("16", 8, 2, 4), ("4,2", 8, 2, 4)],
)
def test_the_processors_are_divided(
    asked: str, cores: int, processes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads_for(cores, processes) == threads
