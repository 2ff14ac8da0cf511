"""What is kept: by readers, bytes and budget, decided the same whenever it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bank_lab import banked, counted
from hard_strategies import Everything, TwoViews
from small_lab import FIT, prepare

from kdzoo.bench.banking import choose, expect
from kdzoo.engine.bank.policy import Demand, Selection, bytes_text, choose_kept, explain_selection
from kdzoo.engine.bank.spec import BankSettings

MIB = 2**20


def demand(strategy: str, views: int = 4, count: int = 1, cycle: int = 0, **sizes: int) -> Demand:
    """A demand for entries of so many MiB a view."""
    numbers = tuple(epoch % (cycle or views) for epoch in range(views))
    texts = {key: key.replace("_", ".") for key in sizes}
    return Demand(strategy, texts, {key: size * MIB for key, size in sizes.items()}, numbers, count)


def kept(selection: Selection) -> list[str]:
    return sorted(one.strategy for one in selection.kept)


def test_what_several_trainings_read_is_kept() -> None:
    selection = choose_kept([demand("soft", count=3, logits=1)], 100 * MIB, frugal=True)
    assert (kept(selection), selection.bytes, len(selection.numbers)) == (["soft"], 4 * MIB, 4)


def test_what_one_training_reads_once_does_not_pay() -> None:
    one = demand("soft", logits=1)
    assert kept(choose_kept([one], 100 * MIB, frugal=True)) == []
    assert choose_kept([one], 100 * MIB, frugal=True).single == [one]
    assert kept(choose_kept([one], 100 * MIB, frugal=False)) == ["soft"]


def test_views_that_come_again_pay_for_one_training() -> None:
    assert kept(choose_kept([demand("soft", cycle=3, logits=1)], 100 * MIB, frugal=True)) == ["soft"]


def test_different_signals_pay_together_because_one_pass_gives_both() -> None:
    selection = choose_kept([demand("soft", logits=1), demand("rkd", embedding=2)], 100 * MIB, frugal=True)
    assert (kept(selection), selection.bytes) == (["rkd", "soft"], 12 * MIB)


def test_the_budget_goes_to_what_spares_most_passes_for_its_bytes() -> None:
    demands = [demand("big", count=3, stages_0=20), demand("small", count=2, embedding=1), demand("soft", logits=1)]
    selection = choose_kept(demands, 20 * MIB, frugal=True)
    assert kept(selection) == ["small", "soft"]
    assert [(one.strategy, cost) for one, cost in selection.over] == [("big", 80 * MIB)]


def test_entries_that_are_kept_for_another_are_free() -> None:
    demands = [demand("all", stages_0=5, stages_1=5), demand("one", count=9, stages_1=5)]
    selection = choose_kept(demands, 40 * MIB, frugal=True)
    assert (kept(selection), selection.bytes) == (["all", "one"], 40 * MIB)


def test_more_views_of_a_kept_entry_cost_only_themselves() -> None:
    demands = [demand("short", views=2, count=2, logits=3), demand("long", views=5, count=2, logits=3)]
    assert choose_kept(demands, 100 * MIB, frugal=True).bytes == 15 * MIB


def test_the_order_of_the_demands_does_not_matter() -> None:
    demands = [demand(name, count=2, **{f"stages_{i}": 3}) for i, name in enumerate("abcde")]
    budget = 30 * MIB
    assert (
        choose_kept(demands, budget, frugal=True).bytes
        == choose_kept(demands[::-1], budget, frugal=True).bytes
        == 24 * MIB
    )


def _line(demands: list[Demand], budget: int, form: str = "ram") -> str:
    return explain_selection(
        choose_kept(demands, budget, frugal=True),
        form,
        of="resnet50 on digits",
        samples=1000,
        seconds=0.01,
        budget=budget,
    )


def test_the_line_says_what_and_why() -> None:
    demands = [
        demand("soft", count=3, logits=1),
        demand("rkd", count=3, embedding=1),
        demand("at", count=3, stages_1=1, stages_2=1),
        demand("fitnets", count=3, stages_0=1000),
    ]
    assert _line(demands, 64 * MIB) == (
        "bank: ram, 4 views x 1,000 samples of resnet50 on digits, logits + embedding + 2 maps, 16 MiB, saves about "
        "320 s of 480 s of teacher time (9 cells); stages of fitnets on the fly: 3.9 GiB over the budget of 64 MiB"
    )


def test_the_line_says_why_nothing_is_kept() -> None:
    assert _line([demand("soft", logits=1)], 64 * MIB) == (
        "bank: not used for soft: each cached view would be read only once; resnet50 on digits runs on the fly"
    )


def test_the_line_tells_a_budget_that_is_used_up_from_one_that_is_too_small() -> None:
    demands = [demand("soft", count=9, logits=10), demand("rkd", count=2, embedding=10)]
    assert _line(demands, 50 * MIB).endswith("embedding of rkd on the fly: 40 MiB more than is left of 50 MiB")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (48 * MIB, "48 MiB"), (2**32, "4 GiB")],
)
def test_sizes_in_words(count: int, text: str) -> None:
    assert bytes_text(count) == text


def bench(out: Path, teacher_file: str, strategies: list[Any], settings: BankSettings, **config: Any) -> Any:
    config = {"teacher_weights": teacher_file, "epochs": 2, "without_baseline": True} | config
    return banked(out, strategies, settings, **config)


def test_what_is_over_the_budget_stays_in_the_loop(tmp_path: Path, teacher_file: str) -> None:
    settings = BankSettings("auto", budget=10_000)
    found = bench(tmp_path, teacher_file, ["soft", "rkd", Everything], settings, seeds=2)
    read = {name: found.bench.students(name)[0].environment.bank for name in ("soft", "rkd", "everything")}
    assert read == {"soft": "ram: logits float32", "rkd": "", "everything": ""}
    assert "of everything on the fly" in found.said[0]
    assert "embedding of rkd on the fly" in found.said[0]


@pytest.mark.parametrize(("mode", "read"), [("auto", ""), ("ram", "ram: logits float32"), ("off", "")])
def test_one_reader_of_new_views(mode: Any, read: str, tmp_path: Path, teacher_file: str) -> None:
    found = bench(tmp_path, teacher_file, ["soft"], BankSettings(mode))
    assert found.only("soft").environment.bank == read
    assert [line.partition(":")[0] for line in found.said] == ([] if mode == "off" else ["bank"])


def test_one_reader_of_views_that_come_again(tmp_path: Path, teacher_file: str) -> None:
    config = {"epochs": 3, "recipe": {"views": 2}}
    with counted() as passes:
        found = bench(tmp_path / "bank", teacher_file, ["soft"], BankSettings("auto"), **config)
    expected = banked(tmp_path / "loop", ["soft"], None, teacher_weights=teacher_file, without_baseline=True, **config)
    assert found.only("soft").environment.bank == "ram: logits float32"
    assert found.only("soft").curve == expected.only("soft").curve
    assert passes.sizes.count(FIT) == 2


def test_views_beside_each_other_are_counted(tmp_path: Path, teacher_file: str) -> None:
    found = bench(tmp_path, teacher_file, [TwoViews], BankSettings("ram"))
    assert found.said[0].startswith("bank: ram, 4 views x 64 samples")


def test_without_augmentation_there_is_one_view(tmp_path: Path, teacher_file: str) -> None:
    found = bench(tmp_path, teacher_file, ["soft"], BankSettings("auto"), recipe={"augment.crop": 0})
    assert found.said[0].startswith("bank: ram, 1 view x 64 samples")
    expected = banked(
        tmp_path / "loop", ["soft"], None, teacher_weights=teacher_file, epochs=2, recipe={"augment.crop": 0}
    )
    assert found.only("soft").curve == expected.only("soft").curve


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_mixed_images_are_not_kept(mix: str, tmp_path: Path, teacher_file: str) -> None:
    found = bench(tmp_path, teacher_file, ["soft", "rkd"], BankSettings("ram"), recipe={mix: 0.5}, seeds=2)
    assert found.said == ["bank: off, because mixup and cutmix mix each image differently in each epoch"]
    assert {record.environment.bank for record in found.bench.students("soft")} == {""}


def test_strategies_without_a_teacher_leave_the_bank_empty(tmp_path: Path, teacher_file: str) -> None:
    found = bench(tmp_path, teacher_file, [], BankSettings("disk"), without_baseline=False)
    assert found.said == []
    assert not (tmp_path / "bank").exists()


def test_done_cells_count_so_that_a_resumed_bench_decides_the_same(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 2, "seeds": 2}
    prepared = prepare(tmp_path / "alone", ["soft"], **config)
    last = [cell for cell in prepared.plan.cells if cell.strategy.name == "soft"][-1]
    prepared.lab.bank = BankSettings("auto")
    assert choose(last, prepared.lab) == (
        "bank: not used for soft: each cached view would be read only once; "
        "test_efficientnet on quadrants runs on the fly"
    )
    again = prepare(tmp_path / "together", ["soft"], **config)
    again.lab.bank = BankSettings("auto")
    expect(again.lab, again.plan.cells)
    assert choose(last, again.lab).startswith("bank: ram, 2 views")


def test_shared_banks_are_on_disk(tmp_path: Path, teacher_file: str) -> None:
    found = bench(tmp_path, teacher_file, ["soft"], BankSettings("auto", shared=True), seeds=2)
    assert found.said[0].startswith("bank: disk, 2 views")


def test_memory_makes_room_for_the_next_teacher(tmp_path: Path) -> None:
    """Two teachers in turn, and a budget for one: what the first one said is let go."""
    config = {"teacher": "test_efficientnet,test_resnet", "teacher_epochs": 6, "epochs": 2, "seeds": 2}
    settings = BankSettings("ram", budget=3000)
    found = banked(tmp_path, ["soft"], settings, **config)
    assert [line.split(",")[0] for line in found.said] == ["bank: ram", "bank: ram"]
    bank = found.bench.lab.open_bank()
    assert bank is not None
    assert bank.in_memory() == 2 * FIT * 4 * 4
    assert all(record.environment.bank == "ram: logits float32" for record in found.bench.students("soft"))


def test_a_part_that_tuning_alone_reads_stays_in_the_loop(tmp_path: Path, teacher_file: str) -> None:
    """Each trial of at looks at other maps, which nothing else reads; those of the defaults serve the finals too."""
    config = {"teacher_weights": teacher_file, "epochs": 2, "tune": 3, "seeds": 2}
    found = banked(tmp_path, ["at"], BankSettings("auto"), **config)
    trials = [record for record in found.bench.records if record.cell.kind == "trial"]
    powers = {record.cell.strategy.params["power"]: record.environment.bank for record in trials}
    assert powers.pop(2.0) != ""
    assert set(powers.values()) == {""}
