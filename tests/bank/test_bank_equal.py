"""Training from the bank is training with the teacher in the loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from bank_lab import EXACT, Banked, banked, counted, terms
from hard_strategies import Contrast, Curriculum, Everything, Review, TeachersHead, ThreePhases, TwoViews
from small_lab import FIT, TEST, TUNE, Quiet, prepare, stop_at

from kdzoo import Strategy
from kdzoo.bench.session import run_bench
from kdzoo.engine.bank.spec import BankSettings

pytestmark = pytest.mark.exhaustive

EPOCHS = 4
SHORT = 2 * 32
"""Images of the two short runs by which shapes and time are found."""
STRATEGIES: list[type[Strategy] | str] = [
    "soft", "fitnets", "at", "rkd", "soft+at", "ofd", "kdpp",
    TwoViews, Everything, Contrast, Curriculum, Review, TeachersHead, ThreePhases,
]  # fmt: skip
NAMES = ["ce", *(each if isinstance(each, str) else each.name for each in STRATEGIES)]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Banked:
    return banked(tmp_path_factory.mktemp("loop"), STRATEGIES, None, epochs=EPOCHS, teacher_weights=teacher_file)


@pytest.fixture(scope="module", params=["ram", "disk"])
def bank(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Banked:
    out = tmp_path_factory.mktemp(request.param)
    with counted() as passes:
        found = banked(out, STRATEGIES, EXACT[request.param], epochs=EPOCHS, teacher_weights=teacher_file)
    found.passes = passes.images
    return found


@pytest.mark.parametrize("name", NAMES)
def test_loss_curves_are_equal(name: str, loop: Banked, bank: Banked) -> None:
    expected, found = loop.only(name), bank.only(name)
    assert len(found.curve) == EPOCHS
    for one, other in zip(terms(found), terms(expected), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-9)
    assert bool(found.environment.bank) == (name != "ce")
    assert expected.environment.bank == ""
    assert expected.id == found.id


def test_each_view_is_passed_through_the_teacher_once_for_all_readers(bank: Banked) -> None:
    views = 2 * EPOCHS * FIT  # one strategy asks for two views of each image
    one_more_reader = EPOCHS * FIT
    assert views <= bank.passes - _measured() < views + one_more_reader


def test_the_line_says_what_is_kept(bank: Banked) -> None:
    (line,) = bank.said
    form = bank.bench.lab.bank.mode
    assert line.startswith(
        f"bank: {form}, 8 views x 64 samples of test_efficientnet on quadrants, logits + embedding + "
    )
    assert line.endswith(f"({len(STRATEGIES)} cells)")


def test_phases_without_a_teacher_have_none_and_their_views_are_not_kept(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 4, "set": {"fitnets.hint_epochs": 2}, "seeds": 2}
    expected = banked(tmp_path / "loop", ["fitnets"], None, **settings)
    with counted() as passes:
        found = banked(tmp_path / "bank", ["fitnets"], EXACT["disk"], **settings)
    for one, other in zip(found.bench.students("fitnets"), expected.bench.students("fitnets"), strict=True):
        assert [line.phase for line in one.curve] == ["hint", "hint", "main", "main"]
        for line, there in zip(terms(one), terms(other), strict=True):
            assert line == pytest.approx(there, rel=1e-5)
    (entry,) = (path for path in (tmp_path / "bank" / "bank").iterdir() if path.is_dir())
    assert sorted(path.name for path in entry.glob("*.bin")) == ["view-00000.bin", "view-00001.bin"]
    assert passes.sizes.count(FIT) >= 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_strategy_gets_has_the_types_of_the_pass(precision: str, tmp_path: Path, teacher_file: str) -> None:
    seen: dict[str, list[object]] = {}

    class Spy(Strategy):
        name = "spy"
        signals = ("logits", "stages", "embedding")

        def forward(self, student: object, teacher: object, batch: object) -> dict[str, object]:
            values = [teacher.logits, teacher.embedding, *teacher.stages]
            seen[self.where] = [(tuple(each.shape), each.dtype) for each in values]
            return {"spy": (student.logits - teacher.logits).square().mean()}

    for where, settings in (("loop", None), ("bank", BankSettings("ram"))):
        Spy.where = where
        config = {"teacher_weights": teacher_file, "epochs": 1, "precision": precision}
        record = banked(tmp_path / where, [Spy], settings, **config).only("spy")
        assert record.status == "done", record.traceback
    assert seen["bank"] == seen["loop"]
    kept = {"fp32": {"float32", "float16"}, "bf16": {"bfloat16"}}[precision]
    assert {piece.split()[-1] for piece in record.environment.bank.split(", ")} == kept


def test_trials_are_shorter_and_share_the_views(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 3, "tune": 3, "tune_epochs": 2}
    expected = banked(tmp_path / "loop", ["soft"], None, **settings)
    with counted() as passes:
        found = banked(tmp_path / "bank", ["soft"], EXACT["ram"], **settings)
    curves = [
        {record.id: terms(record) for record in each.bench.records if record.cell.strategy.name == "soft"}
        for each in (found, expected)
    ]
    assert curves[0].keys() == curves[1].keys()
    assert {len(curve) for curve in curves[0].values()} == {2, 3}
    for name, curve in curves[0].items():
        for line, other in zip(curve, curves[1][name], strict=True):
            assert line == pytest.approx(other, rel=1e-5)
    assert passes.images == 3 * FIT + _measured()


def _measured() -> int:
    """Images of the teacher's own measures, of the normalisations that are tried on tune, and of the short runs."""
    return TEST + TUNE + 3 * TUNE + SHORT


def test_stopped_and_taken_up_again_ends_the_same(tmp_path: Path, teacher_file: str) -> None:
    """In memory the views are gone, and those that are still needed are made again, bit for bit."""
    settings = {"teacher_weights": teacher_file, "epochs": 4}
    whole = banked(tmp_path / "whole", ["soft", "rkd"], BankSettings("auto"), **settings)
    for place in ((1, 2), (2, 3)):
        with pytest.raises(KeyboardInterrupt):
            banked(tmp_path / "cut", ["soft", "rkd"], BankSettings("auto"), report=stop_at(*place), **settings)
    cut = banked(tmp_path / "cut", ["soft", "rkd"], BankSettings("auto"), **settings)
    for name in ("soft", "rkd"):
        one, other = cut.only(name), whole.only(name)
        assert one.outcome() == other.outcome()
        assert one.environment.bank == other.environment.bank != ""


def test_a_cell_found_done_reads_nothing(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 2}
    banked(tmp_path, ["soft", "rkd"], EXACT["disk"], **settings)
    with counted() as passes:
        again = banked(tmp_path, ["soft", "rkd"], EXACT["disk"], **settings)
    assert (passes.images, again.said) == (0, [])


def test_a_later_bench_reads_what_an_earlier_one_left(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "epochs": 2}
    banked(tmp_path, ["soft"], EXACT["disk"], **settings)
    with counted() as passes:
        later = banked(tmp_path, ["soft", Curriculum], BankSettings("auto"), seeds=2, **settings)
    assert later.said[0].startswith("bank: disk, 2 views")
    assert passes.images == SHORT
    assert later.bench.students("soft")[0].environment.bank == "disk: logits float32"


def test_run_bench_without_a_bank_runs_the_teacher(tmp_path: Path, teacher_file: str) -> None:
    bench = prepare(tmp_path, ["soft"], teacher_weights=teacher_file, epochs=1)
    records = run_bench(bench.plan, bench.lab, Quiet(), "failed").records
    assert all(record.environment.bank == "" for record in records)
    assert not (tmp_path / "bank").exists()
