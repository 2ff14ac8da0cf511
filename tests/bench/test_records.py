"""A record is complete in itself, and its weights are plain."""

from __future__ import annotations

import math
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from hard_strategies import Contrast, Everything
from small_lab import DISTRIBUTION, FIT, TEST, TUNE, VERSION, Quiet, prepare, run, states
from torch import Tensor, nn

from kdzoo import Strategy
from kdzoo.bench.executors.local import run_cells
from kdzoo.data.load import open_data
from kdzoo.engine.distiller import Distiller
from kdzoo.measures import hits
from kdzoo.models.zoo import create_model
from kdzoo.store import Store


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> Any:
    out = tmp_path_factory.mktemp("records")
    return run(out, ["soft", "fitnets", Contrast], teacher_weights=teacher_file, epochs=4, recipe={"lr": 0.02})


def test_every_field_is_there_and_plausible(bench: Any) -> None:
    record = bench.only("contrast")
    assert (record.status, record.reason, record.traceback, record.family) == ("done", "", "", "other")
    cell = record.cell
    assert cell.strategy.distribution == DISTRIBUTION
    assert cell.strategy.params == {"negatives": 12}
    assert (cell.recipe.epochs, cell.recipe.precision, cell.seed) == (4, "fp32", 0)
    assert cell.data.fingerprint == bench.lab.data[cell.data].ref.fingerprint
    assert len(cell.data.fingerprint) == 16
    assert [line.epoch for line in record.curve] == [0, 1, 2, 3]
    for line in record.curve:
        assert set(line.terms) == {"ce", "contrast"}
        assert all(math.isfinite(value) and value > 0 for value in line.terms.values())
    assert record.curve[-1].score == record.tune["top1"]
    assert (record.tune["n"], record.test["n"], record.teacher.tune["n"], record.teacher.test["n"]) == (
        TUNE,
        TEST,
        TUNE,
        TEST,
    )
    assert record.test["top5"] == 100  # of four classes
    assert record.teacher.test["top1"] > 60
    assert 0 <= record.test["agreement"] <= 100
    for size, name in ((record.student, "test_resnet"), (record.teacher.size, "test_efficientnet")):
        plain = timm.create_model(name, num_classes=4, in_chans=1)
        assert size.parameters == sum(each.numel() for each in plain.parameters())
        assert size.macs > size.parameters / 10
    adapter = bench.plan.pairs[0]
    assert record.adapter_parameters == (adapter.student_plan.signature.embedding + 1) * (
        adapter.teacher_plan.signature.embedding
    )
    assert 0 < record.cost["teacher"] < record.cost["train"]
    assert record.cost["evaluate"] > 0
    assert 2**26 < record.cost["peak_memory"] < 2**33
    assert (
        record.environment.versions.items()
        >= {
            "kdzoo": version("kdzoo"),
            DISTRIBUTION: VERSION,
            "torch": torch.__version__,
            "timm": timm.__version__,
        }.items()
    )
    assert record.environment.versions["python"].startswith("3.")
    assert record.environment.device.startswith("cpu (")
    assert record.environment.threads == torch.get_num_threads()
    assert datetime.fromisoformat(record.started) < datetime.fromisoformat(record.ended)
    assert datetime.fromisoformat(record.started).utcoffset().total_seconds() == 0
    assert record.command == "kdzoo bench"


def test_the_baseline_has_no_adapter_and_no_time_of_a_teacher(bench: Any) -> None:
    record = bench.only("ce")
    assert record.adapter_parameters == 0
    assert record.cost["teacher"] < 0.1 * record.cost["train"]
    assert record.test["agreement"] is not None
    assert record.teacher == bench.only("soft").teacher


def test_agreement_is_counted_on_test(bench: Any) -> None:
    record = bench.only("soft")
    data = bench.lab.data[record.cell.data]
    guesses = []
    for ref, file in ((record.cell.student, "student.safetensors"), (record.cell.teacher.model, None)):
        network = create_model(ref, data.ref, data.mean, data.std)
        path = bench.folder(record) / file if file else next(iter(bench.plan.files.values()))
        network.model.load_state_dict(safetensors.torch.load_file(path))
        guesses.append(network.eval()(data.images("test", torch.arange(TEST)), {"logits"}).logits.argmax(1))
    assert record.test["agreement"] == 100 * int((guesses[0] == guesses[1]).sum()) / TEST


@pytest.mark.parametrize("strategy", ["ce", "soft", "fitnets", "contrast"])
def test_plain_timm_loads_the_student_in_two_lines_and_scores_the_same(bench: Any, strategy: str) -> None:
    record = bench.only(strategy)
    model = timm.create_model("test_resnet", num_classes=4, in_chans=1)
    model.load_state_dict(safetensors.torch.load_file(bench.folder(record) / "student.safetensors"))

    data = bench.lab.data[record.cell.data]
    images = (data.images("test", torch.arange(TEST)) - data.mean[0]) / data.std[0]
    with torch.no_grad():
        guesses = model.eval()(images).argmax(1)
    assert int((guesses == data.labels("test")).sum()) == hits(record.test)


def test_adapters_memories_and_teacher_are_not_in_the_students_file(bench: Any) -> None:
    plain = set(timm.create_model("test_resnet", num_classes=4, in_chans=1).state_dict())
    for strategy in ("fitnets", "contrast"):
        folder = bench.folder(bench.only(strategy))
        assert set(safetensors.torch.load_file(folder / "student.safetensors")) == plain
        assert sorted(path.name for path in folder.iterdir()) == ["cell.json", "record.json", "student.safetensors"]


def test_a_moving_average_is_what_is_measured_and_kept(tmp_path: Path, teacher_file: str) -> None:
    prepared = prepare(tmp_path, [], teacher_weights=teacher_file, recipe={"ema": 0.9})
    report, seen = states(prepared.lab.store, "ce")
    (record,) = run_cells(prepared.plan.cells, prepared.lab, report, "failed")
    kept = safetensors.torch.load_file(prepared.folder(record) / "student.safetensors")
    live, average = seen[-1]["distiller"], seen[-1]["average"]
    assert all(torch.equal(kept[name], average[f"module.student.model.{name}"]) for name in kept)
    assert any(not torch.equal(kept[name], live[f"student.model.{name}"]) for name in kept)


def test_a_second_bench_finds_all_done_and_trains_nothing(bench: Any) -> None:
    store = bench.lab.store
    events = (store.path / "events.jsonl").read_bytes()
    steps = []
    prepared = prepare(
        store.path,
        ["soft", "fitnets", Contrast],
        teacher_weights=str(next(iter(bench.plan.files.values()))),
        epochs=4,
        recipe={"lr": 0.02},
    )
    report = Quiet(on_step=lambda *where: steps.append(where))
    assert run_cells(prepared.plan.cells, prepared.lab, report, "failed") == bench.records
    assert not steps
    assert (store.path / "events.jsonl").read_bytes() == events


class Greedy(Strategy):
    """Draws from all global generators and trains adapters: nothing of it may reach student, order or views."""

    name = "greedy"
    signals = ("embedding",)

    def build(self, setup: Any) -> None:
        torch.randn(1000)
        self.adapter = nn.Linear(setup.student.embedding, 7)

    def forward(self, student: Any, teacher: Any, batch: Any) -> dict[str, Tensor]:
        return {"noise": (self.adapter(student.embedding) * torch.randn(7)).square().mean()}


def test_strategy_and_teacher_change_neither_start_nor_order_nor_views(
    tmp_path: Path, teacher_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, str], list[Any]] = {}
    forward = Distiller.forward

    def spy(self: Distiller, batch: Any, teacher: Any, hard_labels: bool) -> Any:
        key = (self.strategy.name, running[-1])
        if key not in seen:
            seen[key] = [{name: value.clone() for name, value in self.student.state_dict().items()}]
        seen[key].append((batch.index.clone(), batch.inputs.clone(), batch.targets.clone()))
        return forward(self, batch, teacher, hard_labels)

    running: list[str] = []
    monkeypatch.setattr(Distiller, "forward", spy)
    recipe = {"mixup": 0.2, "augment.flip": True}
    for teacher, weights in (("test_efficientnet", teacher_file), ("test_vit:img_size=16:patch_size=8", "train")):
        running.append(teacher)
        config = {"teacher": teacher, "teacher_weights": weights, "teacher_epochs": 5, "epochs": 2}
        prepared = prepare(tmp_path, [Greedy, Everything, "soft"], recipe=recipe, **config)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kdzoo.bench.teacher_checks.knows", lambda *_: True)
            records = run_cells(prepared.plan.cells, prepared.lab, Quiet(), "failed")
        assert all(record.status == "done" for record in records), [record.reason for record in records]
    students = [each for key, each in seen.items() if key[0] != "ce"] + [seen["ce", "test_efficientnet"]]
    assert len(students) == 7
    first, *others = students
    assert len(first) == 1 + 2 * (FIT // 16)
    for other in others:
        assert all(torch.equal(first[0][name], other[0][name]) for name in first[0])
        for one, two in zip(first[1:], other[1:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_seeds_change_start_order_and_adapters(tmp_path: Path, teacher_file: str) -> None:
    bench = run(tmp_path, ["fitnets"], teacher_weights=teacher_file, epochs=1, seeds=2, without_baseline=True)
    one, two = bench.students("fitnets")
    assert {one.cell.seed, two.cell.seed} == {0, 1}
    assert one.curve != two.curve


def test_the_data_of_a_record_can_be_told_apart(bench: Any) -> None:
    """The fingerprint is of the content: the same again for the same data, another for a subset."""
    registry = bench.lab.registry
    whole, part = (open_data(name, registry.find_dataset) for name in ("quadrants", "quadrants[:32]"))
    assert whole.ref == bench.only("ce").cell.data
    assert part.ref.fingerprint != whole.ref.fingerprint


def test_the_store_on_disk_gives_the_same_records(bench: Any) -> None:
    stored = {record.id: record for record in Store.open(bench.lab.store.path).records()}
    assert stored == {record.id: record for record in bench.records}


@pytest.mark.parametrize("strategy", ["ce", "soft", "fitnets", "at", "rkd"])
def test_bf16_trains_on_a_cpu(strategy: str, tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 1, "precision": "bf16", "without_baseline": strategy != "ce"}
    record = run(tmp_path, [strategy], student="test_vit:img_size=16:patch_size=8", **config).only(strategy)
    assert record.status == "done", record.traceback
    assert record.cell.recipe.precision == "bf16"
    assert record.test["n"] == TEST
