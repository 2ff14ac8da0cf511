"""The command line in this process, and a plugin file with a dataset and strategies that need no time."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from kdzoo.cli import main

TOYS = '''
import os
import time

import numpy as np
import torch

from kdzoo import ArrayData, Dataset, PairError, Splits, Strategy, hookimpl, param


class Shades(Dataset):
    """Dark and bright images, which anything learns in a few steps."""

    name = "shades"
    img_size = (8, 8)

    def load(self, data_dir, download):
        labels = np.arange(120, dtype=np.int64) % 2
        noise = np.random.default_rng(0).integers(0, 60, (120, 1, 8, 8))
        images = (noise + 190 * labels[:, None, None, None]).astype(np.uint8)
        return Splits(ArrayData(images[:80], labels[:80]), ArrayData(images[80:], labels[80:]), ("dark", "bright"))


@hookimpl
def kdzoo_datasets():
    return [Shades()]


class Plain(Strategy):
    """The mean squared difference of the logits."""

    name = "plain"
    weight: float = param(0.01, "of the term", ge=0)

    def forward(self, student, teacher, batch):
        if "TOYS_STAY" in os.environ and batch.view == 1:
            time.sleep(3600)  # in the second epoch, to be stopped
        return {"mse": self.weight * (student.logits - teacher.logits).square().mean()}


class Picky(Strategy):
    name = "picky"

    def build(self, setup):
        raise PairError("picky wants a teacher with a thousand stages")


class Clumsy(Strategy):
    name = "clumsy"

    def forward(self, student, teacher, batch):
        raise RuntimeError("clumsy dropped the batch")


class Wild(Strategy):
    name = "wild"

    def forward(self, student, teacher, batch):
        return {"wild": student.logits.sum() * float("nan")}
'''


@dataclass(frozen=True)
class Result:
    """What a command gave back."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(*arguments: Any) -> Result:
    out, err = io.StringIO(), io.StringIO()
    argv = mock.patch.object(sys, "argv", ["kdzoo", *map(str, arguments)])
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with _one_thread(), argv, streams[0], streams[1], pytest.raises(SystemExit) as end:
        main()
    return Result(end.value.code or 0, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def kdzoo() -> Callable[..., Result]:
    """Run a command as the installed script does."""
    return _run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test works in the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "toys.py"
    path.write_text(TOYS)
    return path


@pytest.fixture(scope="session")
def small(toys: Path) -> tuple[Any, ...]:
    """Arguments of a bench that takes about a second."""
    pair = ("--teacher", "test_resnet", "--student", "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1")
    short = ("--epochs", 2, "--teacher-epochs", 3, "--seeds", 1, "--set", "recipe.batch_size=8")
    return ("bench", "--plugin", toys, "--dataset", "shades", *pair, *short, "--device", "cpu")


@pytest.fixture(scope="session")
def mixed(
    tmp_path_factory: pytest.TempPathFactory, kdzoo: Callable[..., Result], small: tuple[Any, ...]
) -> tuple[Path, Result]:
    """A store after a bench of which some cells are done, some failed and one was refused; and what it printed."""
    out = tmp_path_factory.mktemp("mixed") / "runs"
    return out, kdzoo(*small, "--strategies", "plain,picky,clumsy,wild", "--out", out)


@pytest.fixture
def records() -> Callable[[Path], dict[str, dict[str, Any]]]:
    """The records of a store by strategy, a teacher's under ``teacher``."""

    def read(out: Path) -> dict[str, dict[str, Any]]:
        found = [json.loads(path.read_bytes()) for path in sorted(out.glob("cells/*/record.json"))]
        return {
            "teacher" if each["cell"]["kind"] == "teacher" else each["cell"]["strategy"]["name"]: each for each in found
        }

    return read


@pytest.fixture
def starts() -> Callable[[Path], Iterator[str]]:
    """The ids of the cells that were started in a store, in order."""

    def read(out: Path) -> list[str]:
        path = out / "events.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line["cell"] for line in lines if line["event"] == "start"]

    return read
