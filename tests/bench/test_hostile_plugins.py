"""Whatever a plugin raises or changes stays with its cell, and is named."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_lab import Quiet, prepare, run
from torch import Tensor

from kdzoo import Batch, Outputs, Strategy, Terms
from kdzoo.bench.events import Events, Hooks, Named
from kdzoo.bench.executors.local import run_cells
from kdzoo.errors import recording_ctrl_c
from kdzoo.plugins import Plugin
from kdzoo.process_state import ProcessState
from kdzoo.store import Store


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Nameless(type):
    __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]


class ShyError(Exception, metaclass=Nameless):
    pass


RAISED: dict[str, tuple[BaseException, str]] = {
    "exit": (SystemExit(), "SystemExit (test_hostile_plugins.py:"),
    "generator": (GeneratorExit("enough"), "GeneratorExit: enough (test_hostile_plugins.py:"),
    "base": (BaseException("bare"), "BaseException: bare ("),
    "untyped": (KeyboardInterrupt(), "KeyboardInterrupt ("),
    "mute": (MuteError(), "MuteError: (its text cannot be made: RuntimeError) ("),
    "shy": (ShyError("who"), "an error without a name: who ("),
    "long": (ValueError("é" * 3_000_000), "é... (2,999,000 characters more) ("),
    "odd": (ValueError("a\x1b[31m\ud800\x00\u202eb"), "ValueError: a\\x1b[31m\\ud800\\x00\\u202eb ("),
}


def _raising(label: str, error: BaseException) -> type[Strategy]:
    class Raising(Strategy):
        name = label
        teacher_signals = ()

        def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
            raise error

    return Raising


@pytest.fixture(scope="module", params=[1, 4], ids=["alone", "lockstep"])
def raised(request: Any, tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Any:
    kinds = [_raising(label, error) for label, (error, _) in RAISED.items()]
    bench = prepare(tmp_path_factory.mktemp("raised"), [*kinds, "soft"], teacher_weights=teacher_file, epochs=1)
    with recording_ctrl_c():
        bench.records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed", lockstep=request.param)
    return bench


@pytest.mark.parametrize("label", RAISED)
def test_anything_that_a_strategy_raises_is_a_failed_cell(raised: Any, label: str) -> None:
    record = raised.only(label)
    assert record.status == "failed"
    assert RAISED[label][1] in record.reason
    assert record.reason.isprintable()
    assert len(record.to_json()) < 50_000
    assert Store.open(raised.lab.store.path).record(record.id) == record


def test_the_other_cells_run(raised: Any) -> None:
    assert raised.only("ce").status == raised.only("soft").status == "done"


def test_ctrl_c_that_a_strategy_swallows_stops_the_bench(tmp_path: Path, teacher_file: str) -> None:
    class Deaf(Strategy):
        name = "deaf"
        teacher_signals = ()

        def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("not now") from None
            return {}

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with recording_ctrl_c(), pytest.raises(KeyboardInterrupt):
            run(tmp_path, [Deaf], teacher_weights=teacher_file, epochs=1)
    finally:
        signal.signal(signal.SIGINT, before)


class Changing(Strategy):
    name = "changing"
    teacher_signals = ()

    def build(self, setup: Any) -> None:
        self.steps = 0

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        self.steps += 1
        if self.steps == 1:
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(torch.get_num_threads() + 1)
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
            os.chdir("/")
            os.environ["OMP_NUM_THREADS"] = "17"
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            sys.stdout = sys.stderr
        return {"nothing": 0 * student.logits.mean().float()}


@pytest.mark.parametrize("lockstep", [1, 4])
def test_what_a_strategy_changes_is_put_back_and_named(
    lockstep: int, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    bench = prepare(Path("runs"), [Changing, "soft"], teacher_weights=teacher_file, epochs=2)
    bench.lab.say_with(lines.append)
    before = ProcessState.now()
    bench.records = run_cells(bench.plan.cells, bench.lab, Quiet(), "failed", lockstep=lockstep)
    before.put_back()
    assert not before.changed
    plain = run(tmp_path / "plain", ["soft"], teacher_weights=teacher_file, epochs=2)
    assert [each.status for each in bench.records] == ["done"] * 3
    assert bench.only("soft").outcome() == plain.only("soft").outcome()
    named = bench.only("changing").environment.restored
    for what in ("the default dtype to float64", "cudnn's benchmark mode to on", "the current folder to /"):
        assert what in named
    for what in ("environment variables", "standard output", "the handler of SIGTERM", "the precision of float32"):
        assert what in named
    assert bench.only("soft").environment.restored == ()
    assert [line for line in lines if line.startswith("changing changed ") and line.endswith("restored after its cell")]
    assert '"event":"restored"' in (tmp_path / "runs" / "events.jsonl").read_text()


@pytest.mark.parametrize("mode", ["grad", "inference", "autocast", "device", "anomaly"])
def test_modes_of_torch_are_put_back(mode: str) -> None:
    state = ProcessState.now()
    kept: list[Any] = []
    match mode:
        case "grad":
            torch.set_grad_enabled(False)
        case "inference":
            kept.append(torch.inference_mode())
            kept[0].__enter__()
        case "autocast":
            torch.autocast("cpu").__enter__()
        case "device":
            torch.set_default_device("meta")
        case "anomaly":
            torch.autograd.set_detect_anomaly(True)
    state.put_back()
    told = next(reversed(state.changed))
    assert told.split(" to ")[-1] in ("on", "off", "meta")
    values: Tensor = torch.ones(2, requires_grad=True)
    assert (values * 2).requires_grad
    assert (values.device.type, values.is_inference(), torch.is_autocast_enabled("cpu")) == ("cpu", False, False)


def test_a_closed_stream_is_made_again(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with open(1, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        state = ProcessState.now()
        sys.stdout.close()
        state.put_back()
        print("still here")
    assert list(state.changed) == ["standard output"]
    assert capfd.readouterr().out == "still here\n"


def test_a_hook_changes_no_cell(tmp_path: Path) -> None:
    def hook(**_: Any) -> None:
        torch.set_grad_enabled(False)
        raise SystemExit("bye\x1b[0m")

    plugin = Plugin("odd", "pack", "1", events={"kdzoo_cell_started": hook})
    lines: list[str] = []
    cell = prepare(tmp_path, []).plan.cells[0]
    Events([Named("plugin odd", Hooks(plugin))], lines.append).cell_started(cell)
    assert torch.is_grad_enabled()
    assert lines == [
        "plugin odd: kdzoo_cell_started failed, which changes no result: SystemExit: bye\\x1b[0m; "
        "it changed grad mode to off, which was restored"
    ]


def test_a_strategy_that_changes_things_when_it_is_built_is_named_by_the_plan(tmp_path: Path) -> None:
    class Early(Changing):
        name = "early"

        def build(self, setup: Any) -> None:
            torch.set_default_dtype(torch.float64)
            raise SystemExit("not today")

    plan = prepare(tmp_path, [Early]).plan
    assert plan.warnings == ["early changed the default dtype to float64, which was restored"]
    assert plan.broken[0].reason.startswith("SystemExit: not today (test_hostile_plugins.py:")
    assert torch.get_default_dtype() == torch.float32
