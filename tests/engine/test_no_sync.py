"""No step reads a value of the device, which would make it wait, and batches are augmented as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_lab import BATCH, FIT, STEPS, Quiet, prepare, run
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from kdzoo import Batch, Outputs, Strategy, Terms
from kdzoo.bench.executors.local import run_cells
from kdzoo.data import loaders
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.engine.course import Tally
from kdzoo.engine.train import Training

READS = {
    torch.ops.aten._local_scalar_dense.default,  # item(), float(), bool(), int(), if
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten._unique2.default,
}
MOVES = {Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.__array__}


class WaitError(AssertionError):
    """A step waited for the device."""


INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}


def _by_a_mask(func: Any, args: Sequence[Any]) -> bool:
    """Whether it must find out how many places of a mask are true."""
    return func in INDEXING and any(each is not None and each.dtype == torch.bool for each in args[1])


class _Operations(TorchDispatchMode):
    def __init__(self, watch: Steps) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.watch.inside and (func in READS or _by_a_mask(func, args)):
            raise WaitError(str(func))
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, watch: Steps) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        # By its name: a torch.device is that of the training, which only here is the host's too.
        to_host = func is Tensor.to and any(isinstance(each, str) and each == "cpu" for each in args)
        if self.watch.inside and self.watch.moves and (func in MOVES or to_host):
            raise WaitError(getattr(func, "__name__", str(func)))
        return func(*args, **(kwargs or {}))


class Steps:
    """Raises where a step of an epoch reads a value; what stands between the epochs may.

    Args:
        monkeypatch: undoes it.
        moves: whether it raises for moves to the host too.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, moves: bool = True) -> None:
        self.inside, self.moves, self.epochs = False, moves, 0
        begin, end = Training.set_modes, Tally.means

        def began(training: Training, phase: Any) -> None:
            begin(training, phase)
            self.inside = training.cell.kind == "student"

        def ended(tally: Tally, *arguments: Any) -> dict[str, float]:
            self.epochs += self.inside
            self.inside = False
            return end(tally, *arguments)

        monkeypatch.setattr(Training, "set_modes", began)
        monkeypatch.setattr(Tally, "means", ended)

    def during(self, work: Callable[[], Any]) -> Any:
        with _Operations(self), _Methods(self):
            return work()


BUSY = {"recipe": {"mixup": 0.3, "ema": 0.9, "clip_grad": 1.0, "augment.flip": True, "augment.erase": 0.2}}


@pytest.mark.parametrize(
    ("strategy", "config"),
    [("ce", {}), ("soft", {}), ("fitnets", {}), ("at", {}), ("rkd", {}), ("soft+at", {}), ("soft", BUSY)],
    ids=["ce", "soft", "fitnets", "at", "rkd", "soft+at", "soft with all that a recipe can do"],
)
def test_no_step_waits(
    strategy: str, config: dict[str, Any], tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    run_it = {"teacher_weights": teacher_file, "without_baseline": strategy != "ce", **config}
    record = steps.during(lambda: run(tmp_path, [strategy], **run_it)).only(strategy)
    assert record.status == "done", record.traceback
    assert steps.epochs == 2


def test_no_step_waits_for_the_bank(tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a CPU the bank's own place is the host, so that a move to it says nothing.
    steps = Steps(monkeypatch, moves=False)
    bench = prepare(tmp_path, ["at"], teacher_weights=teacher_file, without_baseline=True)
    bench.lab.bank = BankSettings(mode="ram", budget=2**30, dtype="float16")
    (record,) = steps.during(lambda: run_cells(bench.plan.cells, bench.lab, Quiet(), "failed"))
    assert record.status == "done", record.traceback
    assert record.environment.bank.startswith("ram")
    assert steps.epochs == 2


class Reading(Strategy):
    """Reads a value at each step, in one of the ways."""

    name = "reading"
    family = "test"
    signals = ("logits",)
    read: Callable[[Tensor], object]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        loss = student.logits.square().mean()
        type(self).read(loss)
        return {"square": loss}


WAYS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda loss: loss.item(),
    "float": float,
    "if": lambda loss: 1 if loss > 0 else 2,
    "cpu": lambda loss: loss.cpu(),
    "to": lambda loss: loss.to("cpu"),
    "tolist": lambda loss: loss.detach().tolist(),
    "mask": lambda loss: loss.reshape(1)[loss.reshape(1) > 0],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_check_sees_each_way_of_reading(
    way: str, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reading, "read", staticmethod(WAYS[way]), raising=False)
    steps = Steps(monkeypatch)
    config = {"teacher_weights": teacher_file, "without_baseline": True, "epochs": 1}
    record = steps.during(lambda: run(tmp_path, [Reading], **config)).only("reading")
    assert record.status == "failed"
    assert record.reason.startswith("WaitError:")


def test_batches_are_augmented_as_a_whole(tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    augment = loaders.augment

    def counted(images: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(images))
        return augment(images, *rest)

    monkeypatch.setattr(loaders, "augment", counted)
    run(tmp_path, [], teacher_weights=teacher_file, epochs=3)
    assert sizes == [FIT] * 3  # small batches are even made several at a time
    assert FIT == STEPS * BATCH
