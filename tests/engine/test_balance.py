"""Balanced terms: the weights that the gradients of the first steps give, in value, in a bench and after a stop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_lab import prepare, run, whole_and_cut
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Phase, Setup, Signature, Strategy
from kdzoo.cell import Cell
from kdzoo.combining import combine
from kdzoo.engine.balance import STEPS, Balancer, competes
from kdzoo.engine.devices import make_accelerator
from kdzoo.engine.distiller import Distiller
from kdzoo.engine.world import ALONE
from kdzoo.refs import Balance
from kdzoo.strategy import Terms

CPU = torch.device("cpu")
SETUP = Setup(Signature((), 5, 3), Signature((), 5, 3), (), 3, 7)


class Student(nn.Module):
    """Two parameters, at which linear terms have the gradients that a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Parameter(torch.zeros(2))
        self.trunk = nn.Parameter(torch.zeros(2))


class Pulling(Strategy):
    """Two terms."""

    name = "pulling"

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        pull = (student.logits - teacher.logits).square().mean()
        return {"strong": 0.05 * pull, "weak": 0.0005 * pull}


class Other(Pulling):
    name = "other"


class Unlabelled(Pulling):
    """No hard labels at all."""

    name = "unlabelled"
    ce_weight = 0.0


class Prepared(Pulling):
    """Labels alone, after a phase of terms alone."""

    name = "prepared"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", 1, hard_labels=False), Phase("main", epochs - 1, teacher=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {} if batch.phase == "main" else super().forward(student, teacher, batch)


class Moments(Pulling):
    """Writes down what batches say of the time, and waits for the second half of the training with its terms."""

    name = "moments"
    seen: ClassVar[list[tuple[str, int, float]]] = []

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return Phase("first", 1, hard_labels=False), Phase("main", epochs - 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        type(self).seen.append((batch.phase, batch.epoch, batch.progress))
        return super().forward(student, teacher, batch)


def balancer(ratio: float | None, strategy: type[Strategy] = Pulling, peer: Student | None = None) -> Balancer:
    distiller = Distiller(Student(), strategy(SETUP), peer=peer)
    balance = None if ratio is None else Balance(ratio=ratio, rule=1)
    return Balancer(balance, distiller, make_accelerator(CPU, "fp32"), ALONE, CPU)


def pulls(student: Any, head: float = 0.0, trunk: float = 0.0) -> Tensor:
    """A term with these gradients, each of one parameter."""
    return head * student.head[0] + trunk * student.trunk[1] + 2.0


def gradient(terms: Terms, student: nn.Module, *names: str) -> float:
    """The norm of the gradient of some terms."""
    trained = [one for one in student.parameters() if one.requires_grad]
    loss = torch.stack([terms[name] for name in names]).sum()
    found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    return math.sqrt(sum(float(one.double().square().sum()) for one in found if one is not None))


def test_the_first_step_has_the_ratio_that_was_asked_for_over_all_parameters():
    balance = balancer(0.5)
    student = balance._distiller.student
    terms = balance({"ce": pulls(student, 3, 4), "strong": pulls(student, trunk=9), "weak": pulls(student, trunk=1)})
    assert balance.factors() == {"pulling": pytest.approx(0.5 * 5 / 10)}
    assert gradient(terms, student, "strong", "weak") == pytest.approx(0.5 * gradient(terms, student, "ce"))
    assert gradient(terms, student, "strong") == pytest.approx(9 * gradient(terms, student, "weak"))
    assert gradient(terms, student, "ce") == 5


def test_the_factor_is_of_root_mean_squares_and_stands_after_the_first_steps():
    balance = balancer(2.0)
    student = balance._distiller.student
    squares = [0.0, 0.0]
    for step in range(STEPS):
        labels, own = 1.0 + step, 3.0 * (step % 2)  # every other step has no gradient of its own
        terms = balance({"ce": pulls(student, labels), "kd": pulls(student, trunk=own)})
        squares = [squares[0] + own**2, squares[1] + labels**2]
        factor = 2 * math.sqrt(squares[1] / squares[0]) if squares[0] else 1.0
        assert balance.factors()["pulling"] == pytest.approx(factor)
        assert float(terms["kd"].detach()) == pytest.approx(2 * factor)
    before = balance.factors()
    terms = balance({"ce": pulls(student, 100), "kd": pulls(student, 1)})
    assert balance.factors() == before
    assert gradient(terms, student, "kd") == pytest.approx(before["pulling"])


@pytest.mark.parametrize("own", [torch.tensor(7.0), None], ids=["no gradient", "a gradient of 0"])
def test_terms_without_a_gradient_keep_their_weight(own: Tensor | None) -> None:
    balance = balancer(1.0)
    student = balance._distiller.student
    term = pulls(student) if own is None else own
    terms = balance({"ce": pulls(student, 1), "kd": term})
    assert (balance.factors(), float(terms["kd"].detach())) == ({"pulling": 1.0}, float(term.detach()))


def test_without_labels_and_without_a_ratio_terms_stay_as_they_are() -> None:
    balance, plain = balancer(1.0), balancer(None)
    terms = {"kd": pulls(balance._distiller.student, 3)}
    assert balance(terms) is terms
    assert balance.steps == 0
    labelled = terms | {"ce": pulls(plain._distiller.student, 1)}
    assert plain(labelled) is labelled
    assert plain.factors() == {}


def test_the_seconds_of_measuring_are_counted_once() -> None:
    balance, plain = balancer(1.0), balancer(None)
    student = balance._distiller.student
    balance({"ce": pulls(student, 1), "kd": pulls(student, 4)})
    once = balance.cost({"train": 5.0})
    assert once.keys() == {"balance"}
    assert 0 < once["balance"] == balance.cost(once)["balance"]
    assert plain.cost({"train": 5.0}) == {}


def test_a_gradient_that_overflowed_does_not_count() -> None:
    balance = balancer(1.0)
    student = balance._distiller.student
    balance({"ce": pulls(student, 1), "kd": pulls(student, float("inf"))})
    assert balance.factors() == {"pulling": 1.0}
    balance({"ce": pulls(student, 1), "kd": pulls(student, 4)})
    assert balance.factors() == {"pulling": 0.25}


def test_each_strategy_of_a_combination_has_a_factor() -> None:
    balance = balancer(1.0, combine([Pulling, Other], ["1", "1"]))
    student = balance._distiller.student
    terms = balance(
        {
            "ce": pulls(student, 4),
            "pulling.strong": pulls(student, 16),
            "other.strong": pulls(student, trunk=1),
            "other.weak": pulls(student, trunk=1),
        }
    )
    assert balance.factors() == {"pulling": 0.25, "other": 2.0}
    assert [gradient(terms, student, *names) for names in (["pulling.strong"], ["other.strong", "other.weak"])] == [
        4,
        4,
    ]


def test_two_students_have_one_factor() -> None:
    peer = Student()
    balance = balancer(1.0, peer=peer)
    student = balance._distiller.student
    terms = balance(
        {"ce": pulls(student, 3), "kd": pulls(student, 6), "peer.ce": pulls(peer, 4), "peer.kd": pulls(peer, 8)}
    )
    assert balance.factors() == {"pulling": 0.5}
    assert (gradient(terms, student, "kd"), gradient(terms, peer, "peer.kd")) == (3, 4)


@pytest.mark.parametrize(
    ("strategy", "expected"), [(Pulling, True), (Moments, True), (Unlabelled, False), (Prepared, False)]
)
def test_what_competes_with_labels(strategy: type[Strategy], expected: bool) -> None:
    assert competes(strategy(SETUP), 4) is expected


def test_a_bench_balances_what_competes_and_nothing_else(tmp_path: Path, teacher_file: str) -> None:
    first: dict[str, tuple[float, float]] = {}
    original = Balancer.__call__

    def watched(balancer: Balancer, terms: Terms) -> Terms:
        scaled = original(balancer, terms)
        if balancer.steps == 1 and balancer._distiller.balanced:
            student, others = balancer._distiller.student, [name for name in scaled if name != "ce"]
            first[others[0]] = gradient(scaled, student, "ce"), gradient(scaled, student, *others)
        return scaled

    names = ["soft", "rkd", "ban", Unlabelled, Prepared]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Balancer, "__call__", watched)
        bench = run(tmp_path, names, teacher_weights=teacher_file, balance=0.5, epochs=2, without_baseline=False)
    found = {name: bench.only(name) for name in ("ce", "soft", "rkd", "ban", "unlabelled", "prepared")}
    assert {record.status: record.reason for record in bench.records} == {"done": ""}
    assert [name for name, record in found.items() if record.balance] == ["soft", "rkd", "ban"]
    for name, record in found.items():
        assert bool(record.cell.balance) == bool(record.balance) == ("balance" in record.cost)
        assert (record.record_schema == 8) is bool(record.balance), name
        assert record.balance.keys() <= {name}
    assert all(record.cost["balance"] < record.cost["train"] for record in found.values() if record.balance)
    # At the first step the labels have the weight 1, though soft gives them a tenth, and the terms half their gradient.
    assert first["soft"][0] == pytest.approx(first["distance"][0], rel=1e-4)
    assert [own / labels for labels, own in first.values()] == [pytest.approx(0.5, rel=1e-4)] * len(first)
    (hop,) = found["ban"].cell.hops
    assert hop.balance == found["ban"].cell.balance == Balance(ratio=0.5, rule=1)
    assert bench.plan.inputs[-1] == (
        "terms balanced to 0.5 times the gradient of the labels (rule 1); unchanged, as their terms do not stand "
        "beside hard labels: unlabelled, prepared"
    )


def test_the_ratio_is_part_of_the_identity_and_old_cells_keep_theirs(tmp_path: Path, teacher_file: str) -> None:
    def cells(**config: Any) -> dict[str, Cell]:
        plan = prepare(tmp_path, ["soft"], teacher_weights=teacher_file, **config).plan
        return {cell.strategy.name: cell for cell in plan.cells}

    plain, off, one, half = cells(), cells(balance=0.0), cells(balance=1.0), cells(balance=0.5)
    assert plain["soft"].id == off["soft"].id
    assert "balance" not in plain["soft"].identity()
    assert one["soft"].identity()["balance"] == {"ratio": 1.0, "rule": 1}
    assert len({each["soft"].id for each in (plain, one, half)}) == 3
    assert len({each["ce"].id for each in (plain, one, half)}) == 1
    newer = one["soft"].model_copy(update={"balance": Balance(ratio=1.0, rule=2)})
    assert newer.id != one["soft"].id
    keys = [each["soft"].row_key(1) for each in (plain, one, half)]
    assert len({key.pair for key in keys}) == 1
    assert len({key.setting for key in keys}) == 3
    assert Cell.of_row(keys[1]).balance == one["soft"].balance


def test_steps_that_measure_say_the_middle_of_the_phase(tmp_path: Path, teacher_file: str) -> None:
    Moments.seen.clear()
    bench = run(tmp_path, [Moments], teacher_weights=teacher_file, balance=1.0, epochs=6, without_baseline=True)
    assert bench.only("moments").status == "done", bench.only("moments").traceback
    seen = Moments.seen
    assert [epoch for phase, epoch, _ in seen if phase == "first"] == [0] * 4
    main = [(epoch, progress) for phase, epoch, progress in seen if phase == "main"]
    assert main[:STEPS] == [(3, 0.5)] * STEPS  # epochs 1 to 5, before which the first phase is one
    assert main[STEPS:] == [(5, (5 + step / 4) / 6) for step in range(4)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["rkd", "soft+at", "crd", "dml"])
def test_stopped_while_it_measures_and_after(name: str, tmp_path: Path, teacher_file: str) -> None:
    """Four steps an epoch: the sixteen that are measured go over four."""
    config = {"teacher_weights": teacher_file, "epochs": 6, "balance": 1.0, "without_baseline": True}
    whole, cut = whole_and_cut(tmp_path, [name], [(0, 2), (2, 0), (3, 1), (4, 3)], **config)
    one, other = whole.only(name), cut.only(name)
    assert one.status == "done", one.traceback
    assert one.outcome() == other.outcome()
    assert one.balance
    weights = [each.folder(record) / "student.safetensors" for each, record in ((whole, one), (cut, other))]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_training_goes_on_with_the_squares_that_it_had(tmp_path: Path, teacher_file: str) -> None:
    config = {"teacher_weights": teacher_file, "epochs": 2, "balance": 1.0, "without_baseline": True}
    whole, cut = whole_and_cut(tmp_path, ["rkd"], [(0, 0)], **config)
    one, other = whole.only("rkd"), cut.only("rkd")
    assert one.status == "done", one.traceback
    assert one.balance == other.balance
    assert one.outcome() == other.outcome()
