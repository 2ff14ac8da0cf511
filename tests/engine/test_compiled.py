"""Networks through torch.compile give what they give without, up to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_lab import Quiet, Run, make_lab, prepare, run, stop_at

from kdzoo.bench.executors.local import run_cells
from kdzoo.engine.devices import check_compiler, compile_network
from kdzoo.errors import UsageError
from kdzoo.models.zoo import create_model

STUDENT = "test_vit:depth=1:embed_dim=16:num_heads=1:patch_size=8"


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace the networks, and leave out the C++ compiler, which takes minutes."""
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: original(self, backend="aot_eager"))


def compiled(plain: Run, out: Path) -> Run:
    other = Run(plain.plan, make_lab(plain.plan, out))
    other.lab.compile = True
    return other


@pytest.mark.exhaustive
@pytest.mark.usefixtures("quickly")
def test_a_bench_learns_the_same_and_is_resumed_the_same(tmp_path: Path, teacher_file: str) -> None:
    settings = {"student": STUDENT, "teacher_weights": teacher_file, "without_baseline": True, "epochs": 2}
    plain = run(tmp_path / "plain", ["soft"], recipe={"ema": 0.5}, **settings)
    whole, cut = (compiled(plain, tmp_path / name) for name in ("whole", "cut"))
    whole.records = run_cells(whole.plan.cells, whole.lab, Quiet(), "failed")
    with pytest.raises(KeyboardInterrupt):
        run_cells(cut.plan.cells, cut.lab, stop_at(1, 2), "failed")
    cut.records = run_cells(cut.plan.cells, cut.lab, Quiet(), "failed")
    one, record, again = plain.only("soft"), whole.only("soft"), cut.only("soft")
    assert (one.status, record.status) == ("done", "done"), record.traceback
    assert (one.environment.compiled, record.environment.compiled) == (False, True)
    for line, other in zip(one.curve, record.curve, strict=True):
        assert other.terms == pytest.approx(line.terms, rel=1e-4)
    assert record.test["nll"] == pytest.approx(one.test["nll"], rel=1e-3)
    assert record.student == one.student  # counted before it is compiled
    assert record.teacher.size == one.teacher.size
    assert again.outcome() == record.outcome()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("quickly")
def test_gradients_that_are_measured_one_by_one_are_those_of_an_uncompiled_network(
    tmp_path: Path, teacher_file: str
) -> None:
    settings = {"student": STUDENT, "teacher_weights": teacher_file, "without_baseline": True, "epochs": 1}
    plain = run(tmp_path / "plain", ["soft"], balance=1.0, **settings)
    other = compiled(plain, tmp_path / "compiled")
    other.records = run_cells(other.plan.cells, other.lab, Quiet(), "failed")
    one, record = plain.only("soft"), other.only("soft")
    assert (one.status, record.status) == ("done", "done"), record.traceback
    assert record.balance == pytest.approx(one.balance, rel=1e-3)


def test_its_state_has_the_names_of_the_network(tmp_path: Path) -> None:
    bench = prepare(tmp_path, ["soft"], student=STUDENT)
    data = next(iter(bench.lab.data.values()))
    network = create_model(bench.plan.pairs[0].student, data.ref, data.mean, data.std)
    before = list(network.state_dict())
    compile_network(network)
    assert list(network.state_dict()) == before


def test_where_it_cannot_work_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: Any) -> Any:
        raise RuntimeError("no C++ compiler\nand more of it")

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(UsageError, match=r"--compile: torch.compile does not work here \(no C\+\+ compiler\); install"):
        check_compiler(torch.device("cpu"))


@pytest.mark.exhaustive
def test_where_it_works_it_is_taken() -> None:
    check_compiler(torch.device("cpu"))
