"""A race: how a budget is divided, who goes on, and that it comes to the same end however often it is stopped."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_lab import Quiet, make_lab, prepare
from torch.nn import functional

from kdzoo import Batch, KdzooError, Outputs, Phase, Strategy, Terms, UsageError, param
from kdzoo.bench.executors.local import InProcess
from kdzoo.board.table import make_board
from kdzoo.cell import Cell
from kdzoo.find.finding import finding_text, read_finding
from kdzoo.find.picture import race_chart, race_table, write_picture
from kdzoo.find.propose import Tried, propose
from kdzoo.find.race import Race, RaceBudget, epochs_above, places, rung_ends, trainings_in
from kdzoo.find.racing import Raced, Racing, who_goes_on
from kdzoo.recipe import Recipe
from kdzoo.record_parts import Epoch
from kdzoo.space import Range
from kdzoo.store import Store
from kdzoo.study import TRIAL_SEED

EPOCHS, SEEDS, BUDGET = 6, 2, 14.0
TINY = "test_vit:patch_size=4:depth=1:embed_dim=16:num_heads=1"


class Tug(Strategy):
    """Pulls the student's logits to the teacher's."""

    name = "tug"
    weight: float = param(0.02, search=(0.001, 0.1), log=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"mse": self.weight * (student.logits - teacher.logits).square().mean()}


class Late(Tug):
    """Learns nothing of the labels in the first half of its epochs."""

    name = "late"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("before", epochs // 2, hard_labels=False), Phase("main", epochs - epochs // 2)


class Adrift(Strategy):
    """Teaches the class behind the teacher's."""

    name = "adrift"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        wrong = (teacher.logits.argmax(1) + 1) % teacher.logits.shape[1]
        return {"wrong": 3.0 * functional.cross_entropy(student.logits, wrong)}


class Astray(Adrift):
    name = "astray"


class Afar(Adrift):
    name = "afar"


CLASSES = (Tug, Late, Adrift, Astray, Afar)


@dataclass
class Raceway:
    """A race in a store, which may be run again and again."""

    out: Path
    teacher_file: str
    seen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def run(self, stop: tuple[str, int, int] | None = None, budget: float = BUDGET) -> Raced:
        """Run it; perhaps up to an epoch of a strategy on a rung, as by Ctrl-C."""
        config = {"epochs": EPOCHS, "seeds": SEEDS, "student": TINY, "teacher_weights": self.teacher_file, "tune": 1}
        # With the recipe's own warm-up, of a tenth, the first rung would end after one epoch.
        plan = prepare(self.out, CLASSES, recipe={"warmup": 0.2}, **config).plan
        race = Race.of(plan, RaceBudget(budget, None))
        race.reshape(plan)
        lab = make_lab(plan, self.out, CLASSES)

        def on_epoch(cell: Cell, line: Epoch) -> None:
            self.seen[cell.id].append(line.epoch)
            if stop == (cell.strategy.name, cell.until, line.epoch):
                raise KeyboardInterrupt

        return Racing(race, lab, Quiet(on_epoch=on_epoch), "safe", InProcess(lab)).run([])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> tuple[Raceway, Raced]:
    way = Raceway(tmp_path_factory.mktemp("race"), teacher_file)
    return way, way.run()


def outcome(raced: Raced) -> Any:
    """All of a race but what it took."""
    runners = [(one.label, one.values, [record.outcome() for record in one.records]) for one in raced.runners]
    finals = [(one.number, [(record.outcome(), record.found) for record in records]) for one, records in raced.finals]
    return raced.trainings, runners, finals


@pytest.mark.parametrize(
    ("text", "trainings", "seconds"),
    [("40x", 40, None), ("2h", None, 7200), ("90 min", None, 5400), ("1.5x", 1.5, None)],
)
def test_a_budget_is_trainings_or_a_time(text: str, trainings: float | None, seconds: float | None) -> None:
    assert RaceBudget.parse(text) == (trainings, seconds)


@pytest.mark.parametrize("text", ["40", "x", "0x", "2 days", "-1h", "nanx"])
def test_nothing_else_is_a_budget(text: str) -> None:
    with pytest.raises(UsageError, match="write trainings as 40x, or a time as 2h, 90min or 600s"):
        RaceBudget.parse(text)


@pytest.mark.parametrize(
    ("epochs", "warmup", "ends"),
    [
        (9, 0, (1, 3, 9)),
        (240, 0, (27, 80, 240)),
        (16, 0.1, (2, 6, 16)),
        (16, 0.2, (4, 6, 16)),
        (5, 0.1, (1, 2, 5)),
        (2, 0.1, (1, 2)),
        (1, 0, (1,)),
    ],
)
def test_rungs_end_after_a_ninth_and_a_third_and_behind_the_warm_up(
    epochs: int, warmup: float, ends: tuple[int, ...]
) -> None:
    assert rung_ends(Recipe(name="r", epochs=epochs, batch_size=1, warmup=warmup)) == ends


def test_a_third_goes_on_and_never_fewer_than_the_finals_take() -> None:
    assert [places(entrants) for entrants in (1, 3, 4, 9, 10, 40)] == [1, 3, 3, 3, 4, 14]
    # 40 settings: 14 of them for two more epochs, 5 of these for six more.
    assert epochs_above(40, (1, 3, 9)) == 14 * 2 + 5 * 6


def test_a_time_becomes_trainings_by_what_an_epoch_took() -> None:
    ran = [SimpleNamespace(epochs=2, seconds=3.0), SimpleNamespace(epochs=3, seconds=7.0)]
    race: Any = SimpleNamespace(recipe=SimpleNamespace(epochs=10))
    # 2 s an epoch, 20 s a training: 6 of them in two minutes, twice as many side by side.
    assert trainings_in(120, 1, ran, race) == 6
    assert trainings_in(120, 2, ran, race) == 12
    with pytest.raises(KdzooError, match="no training of the first rung"):
        trainings_in(120, 1, [], race)


def made(number: int, label: str, score: float | None) -> Any:
    return SimpleNamespace(number=number, label=label, score=score, rank=(-(score or 0.0), number))


def test_no_strategy_takes_all_places_and_a_broken_one_takes_none() -> None:
    field = [made(n, "a", 90.0 - n) for n in range(5)] + [made(5, "b", 50.0), made(6, "c", 40.0), made(7, "d", None)]
    assert [one.number for one in who_goes_on(field, 3)] == [0, 5, 6]
    # A place that nobody else can take falls to the next best of all.
    assert [one.number for one in who_goes_on(field, 6)] == [0, 1, 2, 3, 5, 6]
    assert [one.label for one in who_goes_on(field, 20)] == ["a"] * 5 + ["b", "c"]


SPACES = {
    "a": {"a.x": Range(low=0.1, high=10, log=True)},
    "b": {"b.k": Range(low=1, high=3, whole=True), "b.y": Range(low=0, high=1)},
}
HISTORY = [Tried("a", {"a.x": 1000.0}, 60.0), Tried("b", {"b.k": 2, "b.y": 0.5}, 70.0), Tried("c", {}, 55.0)]


def test_what_is_proposed_follows_from_the_history_and_begins_alike() -> None:
    asked = propose("race", SPACES, HISTORY, 2, ["a", "b"])
    assert [strategy for strategy, _ in asked] == ["a", "b"]
    assert all(asked[0][1]["a.x"] in tried for tried in SPACES["a"].values())
    assert propose("race", SPACES, HISTORY, 5, ["a", "b"])[:2] == asked
    assert propose("other", SPACES, HISTORY, 2, ["a", "b"]) != asked


def test_nothing_is_proposed_twice() -> None:
    few = {"b": {"b.k": Range(low=1, high=3, whole=True)}}
    asked = propose("race", few, [Tried("b", {"b.k": 2}, 1.0)], 5)
    assert sorted(values["b.k"] for _, values in asked) == [1, 3]


def test_a_race_keeps_to_its_budget(whole: tuple[Raceway, Raced]) -> None:
    _, raced = whole
    assert raced.race.ends == (2, EPOCHS)
    # ce whole; ce and three finalists on two seeds.
    assert raced.race.set_aside == EPOCHS * (1 + 4 * SEEDS)
    trained = sum(len(one.records[-1].curve) for one in raced.runners)
    assert raced.spent == pytest.approx(trained / EPOCHS + 4 * SEEDS)
    assert BUDGET - 1 < raced.spent <= BUDGET
    assert len(raced.runners) > len(CLASSES) + 1
    with pytest.raises(UsageError, match=r"too small: 5 strategies and the student alone need at least 12\.7x"):
        raced.race.allowed(12)


def test_the_better_part_goes_on_and_continues_its_checkpoint(whole: tuple[Raceway, Raced]) -> None:
    way, raced = whole
    out = [one for one in raced.runners if len(one.records) == 1]
    kept = [one for one in raced.runners[1:] if len(one.records) == 2]
    assert len(kept) == 3
    assert len(out) == len(raced.runners) - 4
    for one in (raced.runners[0], *kept):
        low, high = one.records
        assert high.curve[: len(low.curve)] == low.curve
        assert way.seen[high.id] == list(range(len(low.curve), len(high.curve)))
        assert {record.cell.seed for record in one.records} == {TRIAL_SEED}
    assert not list(way.out.glob("cells/*/checkpoint-*"))


def test_a_slow_starter_is_compared_in_its_main_phase(whole: tuple[Raceway, Raced]) -> None:
    _, raced = whole
    late = next(one for one in raced.runners if one.cell.strategy.name == "late")
    first = late.records[0]
    before = [line.phase for line in first.curve].count("before")
    assert before == EPOCHS // 2
    # The others have trained 2 of 6 epochs, so it has trained a third of its main phase.
    assert len(first.curve) - before == math.ceil((EPOCHS - before) * first.cell.until / EPOCHS) == 1
    assert len(late.records) == 2


def test_rungs_are_on_no_board_and_the_chosen_are_marked(whole: tuple[Raceway, Raced]) -> None:
    way, raced = whole
    records = Store.open(way.out).records()
    assert sum(record.cell.kind == "rung" for record in records) == len(raced.runners) + 4
    rows = make_board(records).rows
    assert {row["strategy"].rpartition(":")[2] for row in rows} == {one.cell.strategy.name for one, _ in raced.finals}
    seen = f"found (5 strategies, {len(raced.runners) - 1} trials)"
    assert {row["strategy"]: row["variant"] for row in rows if row["strategy"] == "ce"} == {"ce": ""}
    assert {row["variant"] for row in rows if row["strategy"] != "ce"} == {seen}
    assert all(row["done"] == SEEDS for row in rows)


def test_a_race_that_is_stopped_and_loses_checkpoints_ends_alike(
    whole: tuple[Raceway, Raced], teacher_file: str, tmp_path: Path
) -> None:
    way = Raceway(tmp_path, teacher_file)
    for stop in (("tug", 2, 0), ("late", 2, 3), ("ce", EPOCHS, 3)):
        with pytest.raises(KeyboardInterrupt):
            way.run(stop)
    for path in tmp_path.glob("cells/*/checkpoint-*"):
        path.unlink()
    assert outcome(way.run()) == outcome(whole[1])
    before = dict(way.seen)
    assert outcome(way.run()) == outcome(whole[1])
    assert way.seen == before


def test_a_larger_budget_tries_the_same_and_more(whole: tuple[Raceway, Raced]) -> None:
    way, raced = whole
    larger = way.run(budget=BUDGET + 1)
    pairs = list(itertools.zip_longest(raced.runners, larger.runners))
    assert all(one is None or (one.label, one.values) == (other.label, other.values) for one, other in pairs)
    assert len(larger.runners) > len(raced.runners)


def test_the_finding_is_read_off_tune_and_compared_on_test(whole: tuple[Raceway, Raced], tmp_path: Path) -> None:
    _, raced = whole
    finding = read_finding(raced)
    (alone, own), *others = raced.finals
    assert alone.alone

    def mean(records: Any, split: str) -> float:
        return sum(getattr(record, split)["top1"] for record in records) / SEEDS

    best = max(others, key=lambda line: mean(line[1], "tune"))
    assert finding.finalists[0].on_tune == max(line.on_tune for line in finding.finalists)
    for line in finding.finalists:
        records = next(found for one, found in others if one is line.runner)
        assert line.on_tune == pytest.approx(mean(records, "tune") - mean(own, "tune"))
        assert line.gain.mean == pytest.approx(mean(records, "test") - mean(own, "test"))
    gains = mean(best[1], "tune") > mean(own, "tune")
    confirmed = gains and finding.finalists[0].gain.mean > 0
    assert finding.recommended is (finding.finalists[0].runner if confirmed else alone)
    assert len(finding.finalists) == 3
    text = finding_text(finding, train="TRAIN", repeat="REPEAT")
    assert text.startswith(f"recommended  {finding.recommended.label}")
    assert "saw 5 strategies" in text
    assert "TRAIN" in text
    assert "REPEAT" in text
    table = race_table(finding).splitlines()
    assert len(table) == 2 + len(CLASSES) + 1
    assert sum("out after rung 1 of 2" in line for line in table) == len(CLASSES) - len(finding.finalists)
    points = race_chart(finding)["layer"][0]["data"]["values"]
    assert len(points) == sum(len(one.records[-1].curve) for one in raced.runners)
    svg, html = write_picture(finding, tmp_path)
    assert svg.read_bytes().startswith(b"<svg")
    assert b"vegaEmbed" in html.read_bytes()
