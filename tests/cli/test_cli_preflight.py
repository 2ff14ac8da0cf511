"""What would fail after the teacher's training is told before it, with the plugin's own error, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

PLUGIN = '''
import os

import numpy as np
from PIL import Image

from kdzoo import Dataset, FileData, Splits, Strategy, hookimpl


class Lazy:
    """Images of which one cannot be read."""

    def __init__(self, count, bad):
        self.count, self.bad = count, bad

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.bad:
            raise SystemExit(f"the scanner\\x1b[1m ate it")
        return Image.new("L", (8, 8), index % 2 * 200), index % 2


class Slides(Dataset):
    name = "slides"
    img_size = (8, 8)

    def load(self, data_dir, download):
        bad = os.environ.get("SLIDES_BAD", "")
        labels = lambda count: np.arange(count, dtype=np.int64) % 2
        parts = {name: FileData(Lazy(count, name == bad), labels(count), name) for name, count in
                 (("train", 600), ("tune", 20), ("test", 40))}
        return Splits(parts["train"], parts["test"], ("dark", "bright"), tune=parts["tune"])


@hookimpl
def kdzoo_datasets():
    return [Slides()]


class Late(Strategy):
    """Fails at the first step."""

    name = "late"

    def forward(self, student, teacher, batch):
        raise SystemExit("too late")


class Fussy(Strategy):
    """Fails in its second phase."""

    name = "fussy"

    def phases(self, epochs):
        from kdzoo import Phase
        return [Phase("first", 1), Phase("second", epochs - 1)]

    def forward(self, student, teacher, batch):
        if batch.phase == "second":
            raise ValueError("not the second one")
        return {"zero": 0 * student.logits.mean()}
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "slides.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def asked(small: tuple[Any, ...], plugin: Path) -> tuple[Any, ...]:
    return (*small, "--plugin", plugin, "--strategies", "plain", "--out", "runs")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "recipe.batch_size=1", "--student", "test_resnet"], "ValueError: Expected more than 1 value per"),
        (["--student", "test_vit:patch_size=4:depth=2:drop_path_rate=2"], "bernoulli_ expects p to be in [0, 1]"),
        (["--student", "test_resnet:drop_path_rate=2"], "cannot be trained on shades"),
    ],
    ids=["one-sample", "drop-path", "drop-path-resnet"],
)
def test_a_network_that_cannot_be_trained_is_told_first(
    options: list[str], told: str, kdzoo: Callable[..., Any], asked: tuple[Any, ...], tmp_path: Path
) -> None:
    result = kdzoo(*asked, *options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert told in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("split", ["train", "tune", "test"])
def test_a_dataset_that_raises_in_its_loader_is_told_first(
    split: str, kdzoo: Callable[..., Any], asked: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIDES_BAD", split)
    result = kdzoo(*asked, "--dataset", "slides", "--student", "test_resnet")
    assert (result.code, result.out) == (2, "")
    assert "SystemExit: the scanner\\x1b[1m ate it (slides.py:" in result.err
    assert not (tmp_path / "runs").exists()


def test_a_strategy_that_breaks_is_told_first_and_the_others_run(
    kdzoo: Callable[..., Any], asked: tuple[Any, ...], tmp_path: Path
) -> None:
    result = kdzoo(*asked, "--strategies", "late,fussy,plain")
    assert result.code == 1, result.err
    lines = result.err.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("[1/5] teacher"))
    early = "\n".join(lines[:first])
    assert "late breaks on test_resnet -> test_vit" in early
    assert "SystemExit: too late (slides.py:" in early
    assert "fussy breaks on test_resnet -> test_vit" in early
    assert "ValueError: not the second one (slides.py:" in early
    assert "plain breaks" not in early
    assert "2 of 5" not in result.err
    assert result.out.count("failed   ") == 2


def test_what_was_tried_changes_no_number_and_what_is_done_is_not_tried(
    kdzoo: Callable[..., Any],
    asked: tuple[Any, ...],
    tmp_path: Path,
    records: Callable[[Path], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert kdzoo(*asked).code == 0
    tried = records(tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr("kdzoo.bench.preflight.Preflight.networks", lambda self: None)
        patch.setattr("kdzoo.bench.preflight.Preflight.strategies", lambda self, store: [])
        assert kdzoo(*asked, "--out", "untried").code == 0
    untried = records(tmp_path / "untried")
    for name in ("curve", "tune", "test", "teacher"):
        assert {key: one[name] for key, one in tried.items()} == {key: one[name] for key, one in untried.items()}

    def refuse(*_: Any) -> None:
        raise AssertionError("it was tried again")

    torch.manual_seed(0)
    monkeypatch.setattr("kdzoo.bench.preflight.Preflight._try", refuse)
    assert kdzoo(*asked).code == 0
    assert kdzoo(*asked, "--dry-run", "--out", "new").code == 0


def test_a_network_may_teach_another_of_its_own_kind(kdzoo: Callable[..., Any], small: tuple[Any, ...]) -> None:
    same = ("--teacher", "test_resnet", "--student", "test_resnet", "--strategies", "plain", "--out", "runs")
    result = kdzoo(*small, *same)
    assert result.code == 0, result.err
    assert "breaks on" not in result.err
