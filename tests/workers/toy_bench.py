"""A bench of a second, for executors: a dataset and strategies of one file, run by the command line."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import waiting

from kdzoo.cli import main
from kdzoo.store import Store
from kdzoo.study import Study

PLUGIN = '''
import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np

from kdzoo import ArrayData, Dataset, Splits, Strategy, UsageError, hookimpl, param


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


class Nudge(Strategy):
    """The mean squared difference of the logits."""

    name = "nudge"
    weight: float = param(0.01, "of the term", ge=0, search=(0.001, 1.0), log=True)

    def forward(self, student, teacher, batch):
        if "TOY_STAY" in os.environ and batch.view == 1:
            time.sleep(3600)  # in the second epoch, to be stopped
        return {"mse": self.weight * (student.logits - teacher.logits).square().mean()}


class Doomed(Nudge):
    """Kills its process in its second epoch, as often as the file of TOY_DEATHS has lines left.

    With the word "node" in the line it kills what started the process: on a Ray cluster, what stands for its machine.
    """

    name = "doomed"

    def forward(self, student, teacher, batch):
        deaths = Path(os.environ.get("TOY_DEATHS", os.devnull))
        left = deaths.read_text().splitlines() if deaths.is_file() else []
        if left and batch.view == 1:
            deaths.write_text("\\n".join(left[1:]))
            os.kill(os.getppid() if left[0] == "node" else os.getpid(), signal.SIGKILL)
            time.sleep(20)  # Ray ends it with its node; what it might still write would be right
        return super().forward(student, teacher, batch)


class Leaver(Nudge):
    """Ends every worker, and no other process."""

    name = "leaver"

    def forward(self, student, teacher, batch):
        if multiprocessing.parent_process():
            os._exit(3)
        return super().forward(student, teacher, batch)


class Quitter(Nudge):
    name = "quitter"

    def forward(self, student, teacher, batch):
        raise SystemExit(3)


class Brimful(Nudge):
    name = "brimful"

    def forward(self, student, teacher, batch):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
'''

STUDENT = "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1"
SMALL = (
    "--dataset", "shades", "--teacher", "test_resnet", "--student", STUDENT, "--epochs", 3, "--teacher-epochs", 3,
    "--set", "recipe.batch_size=8", "--device", "cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a command gave back."""

    code: int
    out: str
    err: str


def kdzoo(*arguments: Any) -> Result:
    """Run a command in this process, on one thread."""
    out, err = io.StringIO(), io.StringIO()
    argv = mock.patch.object(sys, "argv", ["kdzoo", *map(str, arguments)])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            main()
    finally:
        torch.set_num_threads(before)
    return Result(end.value.code or 0, out.getvalue(), err.getvalue())


def start(*arguments: Any, launcher: Sequence[str] = (), **variables: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own, perhaps by another one."""
    return waiting.start(*launcher, sys.executable, "-m", "kdzoo", *arguments, env=os.environ | variables)


def outcomes(out: Path) -> dict[str, Any]:
    """All that must not depend on where cells ran, by the cells' ids: records, and the bytes of weights."""
    store = Store.open(out)
    return {
        record.id: (record.outcome(), [path.read_bytes() for path in sorted(store.folder(record.id).glob("*.safe*"))])
        for record in store.records()
    }


def trials(study: Study) -> list[Any]:
    """The trials of a study without their seconds."""
    return [trial.model_dump(exclude={"seconds"}) for trial in study.trials]


def by_strategy(out: Path) -> dict[str, Any]:
    """The records of the students by their strategy, where there is one of each."""
    return {record.cell.strategy.name: record for record in Store.open(out).records() if record.cell.kind == "student"}
