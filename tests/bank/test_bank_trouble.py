"""Killed, damaged, full, shared: what the bank does about it."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from bank_lab import EXACT, banked, counted, terms
from small_lab import FIT, Quiet, prepare
from waiting import finish, start

from kdzoo.bench.session import run_bench
from kdzoo.engine.bank import passes, view_files
from kdzoo.engine.bank.inventory import remove_entries
from kdzoo.engine.bank.needs import TeacherRunner
from kdzoo.engine.bank.spec import BankSettings
from kdzoo.models.teacher import Teacher
from kdzoo.store import Store

pytestmark = pytest.mark.exhaustive

SHORT = 2
"""Short runs, of 32 samples each, by which shapes and time are found."""
SMALL = 16
"""Samples of a pass, so that a view has several blocks; as many as a batch, so that the kernels are the same."""


@pytest.fixture(autouse=True)
def small_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "pass_batch", lambda data, device: SMALL)
    monkeypatch.setattr("kdzoo.engine.bank.storage.BLOCK_SAMPLES", SMALL)


class Killed(KeyboardInterrupt):
    """Nothing between here and the end of the process may catch this."""


def _stop_after(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bank's own passes end as a kill would, after so many of them."""
    original, left = TeacherRunner.make, passes

    def dying(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(TeacherRunner, "make", dying)


@pytest.mark.parametrize("passes", [0, 1, 3, 4, 6])
def test_killed_while_building_and_taken_up_again(
    passes: int, tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 2, "without_baseline": True}
    whole = banked(tmp_path / "whole", ["soft", "at"], EXACT["disk"], **settings)
    with monkeypatch.context() as patch:
        _stop_after(passes, patch)
        with pytest.raises(Killed):
            banked(tmp_path / "cut", ["soft", "at"], EXACT["disk"], **settings)
    with counted() as seen:
        cut = banked(tmp_path / "cut", ["soft", "at"], EXACT["disk"], **settings)
    assert seen.sizes.count(SMALL) == 2 * FIT // SMALL - passes  # the short runs have more samples
    for name in ("soft", "at"):
        assert cut.only(name).outcome() == whole.only(name).outcome()
    views = sorted((tmp_path / "whole" / "bank").glob("*/view-*"))
    assert views
    for path in views:
        assert (tmp_path / "cut" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("harm", ["cut", "damaged", "gone", "index"])
def test_what_is_not_whole_any_more_is_computed_again(harm: str, tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 2, "without_baseline": True}
    first = banked(tmp_path, ["soft"], EXACT["disk"], **settings)
    (data,) = (tmp_path / "bank").glob("*/view-00001.bin")
    content = data.read_bytes()
    block = SMALL * 4 * 4
    if harm == "cut":
        data.write_bytes(content[: -block // 2])
    elif harm == "damaged":
        data.write_bytes(content[:block] + b"\xff" * block + content[2 * block :])
    elif harm == "gone":
        data.unlink()
    else:
        data.with_suffix(".json").write_text("{")
    with counted() as seen:
        again = banked(tmp_path, ["soft"], EXACT["disk"], rerun="always", **settings)
    assert seen.sizes.count(SMALL) == {"cut": 1, "damaged": 1}.get(harm, FIT // SMALL)
    assert data.read_bytes() == content
    assert terms(again.only("soft")) == terms(first.only("soft"))


def test_a_full_disk_leaves_the_teacher_in_the_loop(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up in the second view; what is there already is read."""
    settings = {"teacher_weights": teacher_file, "epochs": 3, "without_baseline": True}
    expected = banked(tmp_path / "loop", ["soft", "rkd"], None, **settings)
    original, left = view_files.BlockWriter.put, 3 * FIT // SMALL

    def full(self: view_files.BlockWriter, sample: int, rows: memoryview) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(self, sample, rows)

    monkeypatch.setattr(view_files.BlockWriter, "put", full)
    found = banked(tmp_path / "bank", ["soft", "rkd"], EXACT["disk"], **settings)
    _, told = found.said
    assert told == (
        f"bank: {tmp_path}/bank/bank cannot be written (the disk is full); test_efficientnet runs on the fly for "
        f"the views that are not cached yet"
    )
    for name in ("soft", "rkd"):
        for one, other in zip(terms(found.only(name)), terms(expected.only(name)), strict=True):
            assert one == pytest.approx(other, rel=1e-5)
    assert found.only("soft").environment.bank == "disk: logits float32; 2 of 3 epochs on the fly"
    assert [path.name for path in (tmp_path / "bank" / "bank").glob("*/view-*.sums")] == []


def test_no_view_is_begun_that_the_disk_has_no_room_for(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 1, "seeds": 2}
    monkeypatch.setattr("kdzoo.engine.bank.storage.RESERVED_BYTES", 2**60)
    found = banked(tmp_path, ["soft"], EXACT["disk"], **settings)
    assert "cannot be written (too little of the disk would be left)" in found.said[-1]
    assert {record.environment.bank for record in found.bench.students("soft")} == {""}


def test_entries_removed_under_a_running_bench_only_cost_passes(tmp_path: Path, teacher_file: str) -> None:
    import shutil

    def remove_entries(cell: Any, line: Any) -> None:
        if line.epoch == 1:
            shutil.rmtree(tmp_path / "bank")

    settings = {"teacher_weights": teacher_file, "epochs": 3, "seeds": 2}
    found = banked(tmp_path, ["soft"], EXACT["disk"], report=Quiet(on_epoch=remove_entries), **settings)
    assert [record.status for record in found.bench.students("soft")] == ["done", "done"]


def test_entries_removed_while_a_view_is_made_are_made_anew(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `kdzoo bank rm --all` does in the middle of a pass."""
    original, calls = TeacherRunner.make, 0

    def interrupted(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == FIT // SMALL:
            remove_entries(Store(tmp_path), [""])
        return original(self, *arguments, **options)

    monkeypatch.setattr(TeacherRunner, "make", interrupted)
    settings = {"teacher_weights": teacher_file, "epochs": 1, "seeds": 2}
    found = banked(tmp_path, ["soft"], EXACT["disk"], **settings)
    assert {record.environment.bank for record in found.bench.students("soft")} == {"disk: logits float32"}
    assert calls == 2 * FIT // SMALL
    assert len(found.said) == 1


def test_a_view_that_vanishes_while_it_is_opened_is_made_again(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = view_files.ViewFile.map, 0

    def vanishing(self: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            self.remove()
        return original(self)

    monkeypatch.setattr(view_files.ViewFile, "map", vanishing)
    settings = {"teacher_weights": teacher_file, "epochs": 1, "seeds": 2}
    found = banked(tmp_path, ["soft"], EXACT["disk"], **settings)
    assert {record.environment.bank for record in found.bench.students("soft")} == {"disk: logits float32"}


def test_room_is_counted_for_all_entries_of_a_pass(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for each of the two, and not for both."""
    from kdzoo.engine.bank.storage import DiskStorage, shutil

    needs: list[int] = []
    reserve = DiskStorage.reserve

    def noted(self: Any, wanted: Any, number: int) -> None:
        needs.append(sum(wanted.values()))
        assert len(wanted) == 2
        usage = type("Usage", (), {"free": max(wanted.values())})
        with monkeypatch.context() as patch:
            patch.setattr("kdzoo.engine.bank.storage.RESERVED_BYTES", 0)
            patch.setattr(shutil, "disk_usage", lambda _: usage)
            reserve(self, wanted, number)

    monkeypatch.setattr(DiskStorage, "reserve", noted)
    settings = {"teacher_weights": teacher_file, "epochs": 1, "seeds": 2}
    found = banked(tmp_path, ["soft", "rkd"], EXACT["disk"], **settings)
    assert len(needs) == 1
    assert "cannot be written (too little of the disk would be left)" in found.said[-1]


WORKER = """
import json, sys
sys.path.insert(0, {folder!r})
import torch
torch.set_num_threads(1)
from bank_lab import banked, counted
from kdzoo.engine.bank import passes
from kdzoo.engine.bank.spec import BankSettings
passes.pass_batch = lambda data, device: {small}
with counted() as seen:
    settings = BankSettings("disk", dtype="float32")
    bench = banked({out!r}, {strategies!r}, settings, teacher_weights={teacher!r}, epochs=4)
print(json.dumps([seen.sizes.count({small}), [record.status for record in bench.bench.records]]))
"""


def test_two_processes_make_each_view_once_and_read_each_others(tmp_path: Path, teacher_file: str) -> None:
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here.parent / 'engine')!r})" + WORKER.format(
        folder=str(here), out="@", strategies=["soft", "rkd", "at"], teacher=teacher_file, small=SMALL
    ).replace("'@'", f"__import__('pathlib').Path({str(tmp_path)!r})")
    both = [start(sys.executable, "-c", code) for _ in range(2)]
    told = [finish(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    counts = [json.loads(out) for out, _ in told]
    assert sum(count for count, _ in counts) == 4 * FIT // SMALL
    assert {status for _, statuses in counts for status in statuses} == {"done"}


def test_a_waiting_process_makes_another_view_meanwhile(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 3, "without_baseline": True}
    bench = prepare(tmp_path, ["soft"], **settings)
    bench.lab.bank = EXACT["disk"]
    made: list[int] = []
    fill = passes.CachedPass._fill

    def noted(self: Any, number: int, shelf: Any) -> None:
        made.append(number)
        if len(made) == 1:
            held.__exit__(None, None, None)  # the other process ends
        fill(self, number, shelf)

    monkeypatch.setattr(passes.CachedPass, "_fill", noted)
    held: Any = None

    def claim(self: Any, number: int, *, wait: bool) -> Any:
        nonlocal held
        if held is None:
            held = original(self, 0, wait=True)
            held.__enter__()
        return original(self, number, wait=wait)

    from kdzoo.engine.bank.storage import DiskStorage

    original = DiskStorage.claim
    monkeypatch.setattr(DiskStorage, "claim", claim)
    records = run_bench(bench.plan, bench.lab, Quiet(), "failed").records
    assert [record.status for record in records] == ["done"]
    assert made == [1, 0, 2]


def test_values_that_overflow_float16_are_kept_as_they_are(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Teacher.forward

    def huge(self: Teacher, inputs: Any, signals: Any) -> Any:
        outputs = original(self, inputs, signals)
        if "embedding" in outputs.values:
            outputs.values["embedding"] = outputs.values["embedding"] * 1e6
        return outputs

    monkeypatch.setattr(Teacher, "forward", huge)
    settings = {"teacher_weights": teacher_file, "epochs": 2, "seeds": 2}
    expected = banked(tmp_path / "loop", ["rkd"], None, **settings)
    for form in ("ram", "disk"):
        found = banked(tmp_path / form, ["rkd"], BankSettings(form), **settings)
        assert found.said[0].endswith("; embedding as float32 because it overflows float16")
        for one, other in zip(found.bench.students("rkd"), expected.bench.students("rkd"), strict=True):
            assert one.environment.bank == f"{form}: embedding float32"
            for line, there in zip(terms(one), terms(other), strict=True):
                assert line == pytest.approx(there, rel=1e-5)


def test_a_small_last_batch_is_filled_up(tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "pass_batch", lambda data, device: 48)
    settings = {"teacher_weights": teacher_file, "epochs": 2, "without_baseline": True}
    expected = banked(tmp_path / "loop", ["soft"], None, **settings)
    with counted() as seen:
        found = banked(tmp_path / "bank", ["soft"], EXACT["disk"], **settings)
    assert seen.sizes.count(48) == 2
    assert seen.sizes.count(32) == 2 + SHORT  # the last sixteen, filled up
    assert terms(found.only("soft")) == [pytest.approx(line, rel=1e-5) for line in terms(expected.only("soft"))]


def test_a_value_that_overflows_late_starts_the_view_again(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TeacherRunner.make
    calls = 0

    def late(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        found = original(self, *arguments, **options)
        return {key: rows * 1e9 if calls == 3 else rows for key, rows in found.items()}

    monkeypatch.setattr(TeacherRunner, "make", late)
    found = banked(tmp_path, ["rkd"], BankSettings("disk"), teacher_weights=teacher_file, epochs=1, seeds=2)
    assert {record.environment.bank for record in found.bench.students("rkd")} == {"disk: embedding float32"}
    assert calls == 3 + FIT // SMALL
