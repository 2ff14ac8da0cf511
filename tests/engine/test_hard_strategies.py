"""The contract bears the strategies that are hard to serve, without a change of the core."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hard_strategies import HARD, Alone, Contrast, Curriculum, TeachersHead, ThreePhases, TwoMomenta, TwoViews
from safetensors.torch import load_file
from small_lab import BATCH, FIT, STEPS, TEST, Quiet, Run, prepare, run, same_tensors, states, whole_and_cut
from torch.nn.functional import cross_entropy

from kdzoo import Strategy
from kdzoo.bench.executors.local import run_cells
from kdzoo.measures import hits
from kdzoo.models.teacher import Teacher
from kdzoo.models.zoo import create_model
from kdzoo.record import Record

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("strategy", HARD, ids=lambda each: each.name)
def test_it_trains_and_a_stop_changes_nothing(strategy: type[Strategy], tmp_path: Path, teacher_file: str) -> None:
    epochs = 4 if strategy is ThreePhases else 2
    settings = {"teacher_weights": teacher_file, "epochs": epochs, "without_baseline": True}
    whole, cut = whole_and_cut(tmp_path, [strategy], [(epochs - 1, 2)], **settings)
    one, other = whole.only(strategy.name), cut.only(strategy.name)
    assert one.status == "done", one.traceback
    assert [line.epoch for line in one.curve] == list(range(epochs))
    assert one.outcome() == other.outcome()
    for name in ("student.safetensors", *(["deployed.safetensors"] if strategy.deployed else [])):
        assert (whole.folder(one) / name).read_bytes() == (cut.folder(other) / name).read_bytes()


def test_deployed_modules_predict_are_counted_and_are_kept(tmp_path: Path, teacher_file: str) -> None:
    bench = run(tmp_path, [TeachersHead], teacher_weights=teacher_file, epochs=4)
    plain, record = bench.only("ce"), bench.only("teachers-head")
    pair = bench.plan.pairs[0]
    student, teacher = pair.student_plan.signature.embedding, pair.teacher_plan.signature.embedding
    extra = (student * teacher + teacher) + (teacher * 4 + 4)
    assert record.student.parameters == plain.student.parameters + extra
    assert record.student.macs == plain.student.macs + student * teacher + teacher * 4
    assert record.adapter_parameters == 0
    assert list(record.curve[0].terms) == ["embedding"]  # ce_weight 0 leaves the hard-label loss out

    logits, labels = _predict(bench, record)
    assert int((logits.argmax(1) == labels).sum()) == hits(record.test)
    assert record.test["nll"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)
    deployed = load_file(bench.folder(record) / "deployed.safetensors")
    assert torch.equal(deployed["head.weight"], load_file(teacher_file)["classifier.weight"])
    assert not (bench.folder(plain) / "deployed.safetensors").exists()


def _predict(bench: Run, record: Record) -> tuple[torch.Tensor, torch.Tensor]:
    """The test logits by the two files alone, and the labels."""
    data = bench.lab.data[record.cell.data]
    network = create_model(record.cell.student, data.ref, data.mean, data.std)
    network.model.load_state_dict(load_file(bench.folder(record) / "student.safetensors"))
    deployed = load_file(bench.folder(record) / "deployed.safetensors")
    with torch.no_grad():
        embedding = network.eval()(data.images("test", torch.arange(TEST)), {"embedding"}).embedding
    projected = torch.relu(embedding @ deployed["projector.0.weight"].T + deployed["projector.0.bias"])
    return projected @ deployed["head.weight"].T + deployed["head.bias"], data.labels("test")


def test_averaging_reaches_deployed_modules(tmp_path: Path, teacher_file: str) -> None:
    settings = {"teacher_weights": teacher_file, "recipe": {"ema": 0.9}, "without_baseline": True}
    prepared = prepare(tmp_path, [TeachersHead], **settings)
    report, seen = states(prepared.lab.store, "teachers-head")
    (record,) = run_cells(prepared.plan.cells, prepared.lab, report, "failed")
    kept = load_file(prepared.folder(record) / "deployed.safetensors")
    live, average = seen[-1]["distiller"], seen[-1]["average"]
    for name in kept:
        assert torch.equal(kept[name], average[f"module.extra.{name}"])
        assert torch.equal(kept[name], live[f"strategy.{name}"]) == name.startswith("head.")
    logits, labels = _predict(prepared, record)
    assert record.test["nll"] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)


def test_a_memory_meets_each_sample_once_an_epoch(tmp_path: Path, teacher_file: str) -> None:
    prepared = prepare(tmp_path, [Contrast], teacher_weights=teacher_file, epochs=3)
    report, seen = states(prepared.lab.store, "contrast")
    run_cells(prepared.plan.cells, prepared.lab, report, "failed")
    for epoch, state in enumerate(seen, start=1):
        assert torch.equal(state["distiller"]["strategy.seen"], torch.full((FIT,), epoch))


def test_reversed_gradients_grow_with_the_progress(tmp_path: Path, teacher_file: str) -> None:
    """At the first step the progress is 0 and the reversed gradient with it; later the temperature moves."""
    prepared = prepare(tmp_path, [Curriculum], teacher_weights=teacher_file, epochs=3)
    report, seen = states(prepared.lab.store, "curriculum")
    progress: list[float] = []
    original = Curriculum.forward

    def spy(self: Curriculum, student: object, teacher: object, batch: object) -> object:
        progress.append(batch.progress)
        return original(self, student, teacher, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Curriculum, "forward", spy)
        run_cells(prepared.plan.cells, prepared.lab, report, "failed")
    assert progress == pytest.approx([step / (3 * STEPS) for step in range(3 * STEPS)])
    temperatures = [float(state["distiller"]["strategy.temperature"]) for state in seen]
    assert len(set(temperatures)) == 3


def test_two_backward_passes_equal_one_where_momentum_is_none(tmp_path: Path, teacher_file: str) -> None:
    class Plain(TwoMomenta):
        name = "plain"
        gradients = Strategy.gradients

    class Split(TwoMomenta):
        name = "split"

        def gradients(self, terms: dict, backward: object) -> None:
            self.velocities = []
            super().gradients(terms, backward)

    bench = run(tmp_path, [Plain, Split], teacher_weights=teacher_file, epochs=1)
    plain, split = (bench.only(name).curve[0].terms for name in ("plain", "split"))
    assert split == pytest.approx(plain, rel=1e-3)


def test_two_views_fill_one_batch(tmp_path: Path, teacher_file: str) -> None:
    sizes, orders, views = [], [], []
    original = TwoViews.forward

    def spy(self: TwoViews, student: object, teacher: object, batch: object) -> object:
        sizes.append((len(student.logits), len(teacher.logits), len(batch.labels), len(batch.index)))
        orders.append(batch.index[:BATCH].tolist())
        views.append(batch.view)
        return original(self, student, teacher, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TwoViews, "forward", spy)
        record = run(tmp_path, [TwoViews], teacher_weights=teacher_file, epochs=2).only("two-views")
    assert record.status == "done", record.traceback
    assert sizes == [(2 * BATCH,) * 4] * 2 * STEPS
    assert views == [0] * STEPS + [1] * STEPS
    for epoch in (orders[:STEPS], orders[STEPS:]):
        assert sorted(place for step in epoch for place in step) == list(range(FIT))
    assert orders[:STEPS] != orders[STEPS:]


def test_a_strategy_without_teacher_signals_never_runs_the_teacher(tmp_path: Path, teacher_file: str) -> None:
    prepared = prepare(tmp_path, [Alone], teacher_weights=teacher_file, epochs=1)
    baseline = [cell for cell in prepared.plan.cells if cell.strategy.name == "ce"]
    run_cells(baseline, prepared.lab, Quiet(), "failed")  # measures the teacher
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Teacher, "forward", lambda *_: pytest.fail("the teacher was run"))
        records = run_cells(prepared.plan.cells, prepared.lab, Quiet(), "failed")
    assert [record.status for record in records] == ["done", "done"]
    assert records[1].test["agreement"] is not None
    assert records[1].teacher == records[0].teacher


@pytest.fixture(scope="module")
def phased(tmp_path_factory: pytest.TempPathFactory, teacher_file: str) -> tuple[Run, list[dict]]:
    """A run of three phases, and the states before it and after each of its epochs."""
    prepared = prepare(tmp_path_factory.mktemp("phased"), [ThreePhases], teacher_weights=teacher_file, epochs=5)
    report, seen = states(prepared.lab.store, "three-phases")
    prepared.records = run_cells(prepared.plan.cells, prepared.lab, report, "failed")
    return prepared, [state["distiller"] for state in seen]


def _part(state: dict[str, torch.Tensor], owner: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name.startswith(f"{owner}.")}


def test_phases_share_the_epochs_and_say_which_losses_count(phased: tuple[Run, list[dict]]) -> None:
    record = phased[0].only("three-phases")
    assert record.status == "done", record.traceback
    assert [line.phase for line in record.curve] == ["strategy", "student", "student", "both", "both"]
    assert [sorted(line.terms) for line in record.curve] == [["factor"], *[["ce", "factor"]] * 4]


def test_what_a_phase_does_not_train_stands_still_bit_for_bit(phased: tuple[Run, list[dict]]) -> None:
    bench, (first, second, third, fourth, last) = phased
    cell = bench.only("three-phases").cell
    torch.manual_seed(cell.seed_for("init"))
    data = bench.lab.data[cell.data]
    fresh = create_model(cell.student, data.ref, data.mean, data.std)
    initial = {f"student.model.{name}": value for name, value in fresh.model.state_dict().items()}
    assert any("running_mean" in name for name in initial)
    assert same_tensors(_part(first, "student"), initial)
    assert same_tensors(_part(first, "strategy"), _part(second, "strategy"))
    assert same_tensors(_part(second, "strategy"), _part(third, "strategy"))
    assert any("running_mean" in name for name in _part(first, "strategy"))
    for before, after, owner in (
        (first, second, "student"),
        (second, third, "student"),
        (third, fourth, "student"),
        (third, fourth, "strategy"),
        (fourth, last, "strategy"),
    ):
        old, new = _part(before, owner), _part(after, owner)
        assert all(not torch.equal(old[name], new[name]) for name in old if name.endswith("running_mean"))


def test_the_schedule_starts_anew_in_each_phase(phased: tuple[Run, list[dict]]) -> None:
    rates = [line.lr for line in phased[0].only("three-phases").curve]
    peak = 0.05
    # The rate of the last step of an epoch on a cosine with a warm-up over the first tenth of each phase.
    expected = [
        peak * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (done * STEPS - 1) / (length * STEPS))).item())
        for length, done in ((1, 1), (2, 1), (2, 2), (2, 1), (2, 2))
    ]
    assert rates == pytest.approx(expected)


def test_fitnets_hint_phase_has_no_labels_and_the_main_phase_no_hint(tmp_path: Path, teacher_file: str) -> None:
    settings = {"fitnets.hint_epochs": 1}
    record = run(tmp_path, ["fitnets"], teacher_weights=teacher_file, epochs=3, set=settings).only("fitnets")
    assert [(line.phase, list(line.terms)) for line in record.curve] == [
        ("hint", ["hint"]),
        ("main", ["ce"]),
        ("main", ["ce"]),
    ]
