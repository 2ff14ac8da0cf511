"""What was judged worth keeping stands: for a bench that is taken up again, for later ones, for one cell by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bank_lab import banked
from small_lab import FIT, Quiet, prepare, stop_at

from kdzoo.bench.run import run_cell
from kdzoo.bench.session import run_bench
from kdzoo.bench.single import plan_task
from kdzoo.engine.bank import bank
from kdzoo.engine.bank.inventory import DecisionLog, PassDecisions
from kdzoo.engine.bank.policy import READING, Demand, choose_kept, recall_selection
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.engine.course import Unwatched
from kdzoo.engine.world import ALONE
from kdzoo.store import Store

AUTO = BankSettings("auto")
VIEW = FIT * 4 * 4
"""Bytes of the logits of four classes in one view."""


def demand(strategy: str, numbers: tuple[int, ...], count: int = 1, **sizes: int) -> Demand:
    return Demand(strategy, {key: key for key in sizes}, sizes, numbers, count)


def test_verdicts_are_found_again(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    demands = [
        demand("soft", (0, 1), 2, logits=10),
        demand("at", (0, 1), 2, stages=90),
        demand("rkd", (5,), embedding=1),
    ]
    selection = choose_kept(demands, 30, frugal=False)
    ledger = DecisionLog(store, AUTO)
    assert ledger.read("a") is None
    page = PassDecisions().judged(selection, "disk")
    store.bank.mkdir()
    ledger.write("a", page)
    again = DecisionLog(store, BankSettings("auto", shared=True)).read("a")
    assert again is not None
    assert [again.outcome(one) for one in demands] == ["kept", "over", "kept"]
    assert again.outcome(demand("soft", (0, 1, 2), 2, logits=10)) is None
    assert again.outcome(demand("soft", (1,), 7, logits=10)) == "kept"
    assert (again.bytes, again.kept) == (21, {("logits", 0), ("logits", 1), ("embedding", 5)})
    assert (ledger.on_disk("a"), ledger.on_disk("b")) == (0, 21)
    assert DecisionLog(store, BankSettings("auto", dtype="float32")).read("a") is None


def test_a_damaged_page_is_none(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    store.bank.mkdir()
    ledger = DecisionLog(store, AUTO)
    ledger.write("a", PassDecisions().judged(choose_kept([demand("soft", (0,), logits=1)], 9, frugal=False), "ram"))
    (path,) = store.bank.iterdir()
    path.write_text(path.read_text()[:20])
    assert ledger.read("a") is None


def test_what_was_chosen_before_is_free() -> None:
    old, more = demand("soft", (0, 1), 2, logits=10), demand("long", (0, 1, 2), 2, logits=10)
    selection = choose_kept([more], 10, frugal=True, have=old.places)
    assert (selection.kept, selection.over) == ([more], [])
    assert choose_kept([more], 9, frugal=True, have=old.places).over == [(more, 10)]
    assert recall_selection([(more, "over")], old.places).over == [(more, 10)]


def test_what_takes_longer_to_read_than_to_make_stays_in_the_loop() -> None:
    large, small = demand("at", (0,), 5, stages=READING + 1), demand("soft", (0,), 5, logits=8)
    selection = choose_kept([large, small], 2**40, frugal=True, pass_seconds=1.0)
    assert (selection.slow, selection.kept) == ([large], [small])
    assert choose_kept([large, small], 2**40, frugal=False, pass_seconds=1.0).slow == []


@pytest.mark.exhaustive
def test_a_demand_over_the_budget_reads_no_more_than_was_chosen(tmp_path: Path, teacher_file: str) -> None:
    """Trials show two views, which fit; the final trainings show six, which do not, though their entry is kept."""
    settings = BankSettings("auto", budget=2 * VIEW)
    config = {"teacher_weights": teacher_file, "epochs": 6, "tune": 3, "tune_epochs": 2, "seeds": 2}
    found = banked(tmp_path, ["soft"], settings, **config)
    read = {
        record.cell.kind: record.environment.bank
        for record in found.bench.records
        if record.cell.strategy.name == "soft"
    }
    assert read == {"trial": "ram: logits float32", "student": ""}
    opened = found.bench.lab.open_bank()
    assert opened is not None
    assert opened.in_memory() == 2 * VIEW
    assert "logits of soft on the fly" in found.said[0]


def _stopped(out: Path, config: dict[str, Any], strategies: list[str]) -> None:
    bench = prepare(out, strategies, **config)
    bench.lab.bank = AUTO
    with pytest.raises(KeyboardInterrupt):
        run_bench(bench.plan, bench.lab, stop_at(0, 0), "failed")


@pytest.mark.parametrize("free", [0, 2**40])
def test_free_memory_of_another_day_changes_nothing(
    free: int, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 2, "seeds": 2, "without_baseline": True}
    first = 0 if free else 2**40
    monkeypatch.setattr(bank, "free_memory", lambda: first)
    monkeypatch.setattr(bank.shutil, "disk_usage", lambda _: type("Usage", (), {"free": first})())
    _stopped(tmp_path, config, ["soft"])
    monkeypatch.setattr(bank, "free_memory", lambda: free)
    monkeypatch.setattr(bank.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free})())
    found = banked(tmp_path, ["soft"], AUTO, **config)
    read = [record.environment.bank.partition(":")[2] for record in found.bench.students("soft")]
    assert read == ([""] * 2 if free else [" logits float32"] * 2)


def test_a_later_bench_reads_what_an_earlier_one_chose(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 2, "without_baseline": True}
    banked(tmp_path, ["soft"], AUTO, seeds=2, **config)
    later = prepare(tmp_path, ["soft"], seeds=3, **config)
    later.lab.bank = AUTO
    record = run_cell(later.plan.cells[-1], later.lab, Unwatched(), "failed")
    assert record is not None
    assert record.environment.bank == "ram: logits float32"


def test_one_cell_by_itself_reads_as_its_bench_would(tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, ["soft"], seeds=2, epochs=2, teacher_weights=teacher_file)
    for cell in bench.plan.cells:
        bench.lab.store.plan(cell)
    cell = bench.plan.cells[-1]
    others = {"bank": AUTO}
    task = plan_task(
        bench.lab.store,
        cell,
        ALONE,
        "failed",
        device=torch.device("cpu"),
        others=others,
        teacher_weights=Path(teacher_file),
    )
    expected = task.settings.others["expected"]
    assert set(expected) == {each.id for each in bench.plan.cells}
    bench.lab.bank, bench.lab.expected = AUTO, dict(expected)
    record = run_cell(cell, bench.lab, Unwatched(), "failed")
    assert record is not None
    assert record.environment.bank == "ram: logits float32"


@pytest.mark.exhaustive
def test_two_teachers_share_one_budget_on_the_disk(tmp_path: Path) -> None:
    """Whoever comes second counts what the first one keeps, though another process decided that."""
    config = {"teacher": "test_efficientnet,test_resnet", "teacher_epochs": 6, "epochs": 2, "seeds": 2}
    bench = prepare(tmp_path, ["soft"], **config)
    students = [cell for cell in bench.plan.cells if cell.strategy.name == "soft"]
    teachers = list(dict.fromkeys(cell.teacher for cell in students))
    settings = BankSettings("disk", budget=3 * VIEW)
    read = []
    for teacher in teachers:
        own = prepare(tmp_path, ["soft"], **config)
        own.plan.cells = [cell for cell in bench.plan.cells if cell.kind == "teacher" or cell.teacher == teacher]
        own.lab.bank = settings
        records = run_bench(own.plan, own.lab, Quiet(), "failed").records
        read.append({record.environment.bank for record in records if record.cell.strategy.name == "soft"})
    assert read == [{"disk: logits float32"}, {""}]


@pytest.mark.exhaustive
def test_tuning_that_is_taken_up_again_counts_the_trials_before(tmp_path: Path, teacher_file: str) -> None:
    """So that a second trial of some setting reads what it would have read without the stop."""
    config = {"teacher_weights": teacher_file, "epochs": 1, "tune": 4, "without_baseline": True}

    def counted(out: Path, report: Quiet) -> dict[str, int]:
        bench = prepare(out, ["at"], **config)
        bench.lab.bank = AUTO
        run_bench(bench.plan, bench.lab, report, "failed")
        return {key: one.count for key, one in bench.lab.expected.items() if one.cell.kind == "trial"}

    trials = 0

    def stop(cell: Any, line: Any) -> None:
        nonlocal trials
        trials += cell.kind == "trial"
        if trials == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counted(tmp_path / "cut", Quiet(on_epoch=stop))
    whole = counted(tmp_path / "whole", Quiet())
    assert len(whole) == 4
    assert counted(tmp_path / "cut", Quiet()) == whole
