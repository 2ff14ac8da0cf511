"""A modifier changes what the other parts of a combination see, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdzoo import Batch, Outputs, Phase, Setup, Signature, StageShape, Strategy, Terms, UsageError, param
from kdzoo.combining import combine
from kdzoo.config import BenchConfig
from kdzoo.declarations import Declared
from kdzoo.matrix import resolve_strategies
from kdzoo.plugins import Plugin, load_plugins
from kdzoo.registry import Registry
from kdzoo.testing import run_checks

NETWORK = Signature(stages=(StageShape(4, 2, 2),), embedding=6, num_classes=3)
SETUP = Setup(student=NETWORK, teacher=NETWORK, stage_pairs=((0, 0),), num_classes=3, num_samples=20)


class Doubled(Strategy):
    """Both networks' logits, twice as large; the terms count three times."""

    name = "doubled"
    modifies = ("logits",)
    per_sample = True
    term_weight: float = param(3.0, "factor of the terms", ge=0.0)

    def modify(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs]:
        return Outputs({"logits": 2 * student.logits}), Outputs({"logits": 2 * teacher.logits})


class Shifted(Strategy):
    """The teacher's logits, shifted by a number that is learned, and what nobody allowed."""

    name = "shifted"
    signals = ("logits", "embedding")
    modifies = ("logits",)

    def build(self, setup: Setup) -> None:
        self.shift = nn.Parameter(torch.ones(1))
        self.calls = 0

    def modify(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs]:
        self.calls += 1
        return student, Outputs({"logits": teacher.logits + self.shift, "embedding": teacher.embedding * 0})


class Gap(Strategy):
    """What it sees, as terms, one of them reduced."""

    name = "gap"

    def reduce(self, teacher: Outputs) -> Outputs:
        return Outputs({"sum": teacher.logits.sum(dim=1)})

    def reduction(self) -> dict[str, str]:
        return {"sum": "logits summed"}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"student": student.logits.sum(), "teacher": teacher.values["sum"].sum()}


class Other(Gap):
    name = "other"


class Embedded(Strategy):
    """Asks for the embedding, and is shown the student's logits all the same."""

    name = "embedded"
    signals = ("embedding",)

    def reduce(self, teacher: Outputs) -> Outputs:
        return Outputs({"mean": teacher.embedding.mean(dim=1)})

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {"student": student.logits.sum(), "teacher": teacher.values["mean"].sum()}


class Pair(Gap):
    name = "pair"
    views = 2


class Late(Gap):
    """Does without the teacher in the end."""

    name = "late"

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        return (
            Phase("first", 1, hard_labels=False),
            Phase("end", epochs - 1, trains="student", teacher=False),
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        return {batch.phase: student.logits.sum()}


PAIR = {"dataset": "digits", "teacher": ["resnet10t"], "student": ["test_resnet"]}

OWN = [Doubled, Shifted, Gap, Other, Embedded, Pair, Late]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry([*load_plugins(), Plugin("tests", "my-pack", "2.5", strategies=list(OWN))])


@pytest.fixture
def build() -> Callable[..., Strategy]:
    def make(*kinds: type[Strategy], **values: Any) -> Strategy:
        return combine(kinds, ["1"] * len(kinds))(SETUP, **values)

    return make


def signals() -> Outputs:
    return Outputs({"logits": torch.ones(4, 3), "stages": (torch.ones(4, 4, 2, 2),), "embedding": torch.ones(4, 6)})


def terms_of(strategy: Strategy, *, reduced: bool = False, phase: str = "main") -> dict[str, float]:
    teacher = strategy.reduce(signals()) if reduced else signals()
    labels = torch.zeros(4, dtype=torch.int64)
    batch = Batch(torch.zeros(4, 1, 8, 8), labels, labels, torch.arange(4), phase=phase)
    return {name: value.item() for name, value in strategy(signals(), teacher, batch).items()}


@pytest.mark.parametrize("reduced", [False, True])
def test_parts_that_ask_for_it_see_it_and_others_do_not(reduced: bool, build: Callable[..., Strategy]) -> None:
    both = build(Gap, Doubled, Embedded)
    assert terms_of(both, reduced=reduced) == {
        "gap.student": 3 * 24,
        "gap.teacher": 3 * 24,
        "embedded.student": 12,
        "embedded.teacher": 4,
    }
    assert torch.equal(both.predict(signals()), signals().logits)


@pytest.mark.parametrize("reduced", [False, True])
def test_modifiers_act_in_their_order_once_for_all_parts(reduced: bool, build: Callable[..., Strategy]) -> None:
    first, second = build(Gap, Doubled, Shifted, Other), build(Shifted, Gap, Other, Doubled)
    assert terms_of(first, reduced=reduced)["gap.teacher"] == 3 * 36  # 2 x 1 + 1
    assert terms_of(second, reduced=reduced)["gap.teacher"] == 3 * 48  # 2 x (1 + 1)
    assert terms_of(second, reduced=reduced)["other.student"] == 3 * 24
    (shifted,) = [part for part in first.each() if isinstance(part, Shifted)]  # type: ignore[attr-defined]
    assert shifted.calls == 1


def test_only_what_it_says_is_taken_of_a_modifier(build: Callable[..., Strategy]) -> None:
    assert terms_of(build(Embedded, Shifted, Gap))["embedded.teacher"] == 4


def test_its_weight_is_a_parameter_like_others(build: Callable[..., Strategy]) -> None:
    assert terms_of(build(Gap, Doubled, **{"doubled.term_weight": 0.5}))["gap.student"] == 12


def test_its_adapters_are_trained(build: Callable[..., Strategy]) -> None:
    both = build(Gap, Shifted)
    both(signals(), signals(), Batch(*[torch.zeros(4, dtype=torch.int64)] * 4))["gap.teacher"].backward()
    (shift,) = both.parameters()
    assert isinstance(shift.grad, Tensor)
    assert shift.grad.item() == 12


def test_the_bank_keeps_what_is_not_changed_yet(build: Callable[..., Strategy]) -> None:
    both = build(Gap, Doubled, Embedded)
    kept = both.reduce(signals())
    assert set(kept.values) == {"gap.logits", "doubled.logits", "embedded.mean"}
    assert both.reduction() == {"gap.logits": "logits", "doubled.logits": "logits"}
    assert type(build(Gap, Doubled)).reduce is Strategy.reduce


def test_it_has_no_phases_and_rests_without_the_teacher(build: Callable[..., Strategy]) -> None:
    both = build(Doubled, Late)
    phases = both.phases(5)
    assert [(phase.name, phase.epochs, phase.trains, phase.teacher) for phase in phases] == [
        ("first", 1, "both", True),
        ("end", 4, "student", False),
    ]
    assert terms_of(both, phase="first") == {"late.first": 3 * 24}
    labels = torch.zeros(4, dtype=torch.int64)
    alone = both(signals(), Outputs({}), Batch(labels, labels, labels, labels, phase="end"))
    assert {name: float(value) for name, value in alone.items()} == {"late.end": 12}


def test_views_are_those_of_the_others(build: Callable[..., Strategy]) -> None:
    assert build(Doubled, Pair).views == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("doubled+shifted", r"doubled\+shifted: doubled changes the logits .* as in soft\+doubled"),
        (
            "embedded+doubled",
            "doubled changes the teacher's logits, for which embedded does not ask: leave doubled out",
        ),
        ("at+ls+embedded", "ls changes the teacher's logits, for which at and embedded do not ask"),
        ("ce+ls", "ls changes the teacher's logits, for which ce does not ask"),
    ],
)
def test_what_nobody_sees_is_refused(name: str, message: str, registry: Registry) -> None:
    with pytest.raises(UsageError, match=message):
        registry.strategy(name)


def test_a_bench_does_not_take_it_alone(registry: Registry) -> None:
    message = r"ls changes the logits that other strategies see, and has no loss of its own: .* soft\+ls"
    with pytest.raises(UsageError, match=message):
        resolve_strategies(BenchConfig(**PAIR, strategies=["soft", "ls"]), registry)
    asked = BenchConfig(**PAIR, strategies=["all"])
    everything = {one.name for one in resolve_strategies(asked, registry)}
    assert {"ce", "soft", "gap"} <= everything
    assert not {"ls", "sort", "doubled", "shifted"} & everything
    with pytest.raises(UsageError, match=message):
        run_checks(registry.strategy("ls"))


def test_what_it_declares_goes_through_the_cache(registry: Registry) -> None:
    declared = registry.strategy("ls").declared
    assert declared.modifies == ("logits",)
    assert Declared.from_json(declared.to_json()) == declared


def test_its_card_says_what_is_changed(registry: Registry) -> None:
    text = registry.strategy("soft+at+sort+ls").declared.doc
    assert "The terms of soft and at, added, on signals as sort and then ls changes them." in text
    assert "ls.term_weight x the terms of soft on the signals of sort and then ls + the terms of at." in text


def test_a_modifier_of_what_it_does_not_ask_for_is_refused() -> None:
    class Blind(Doubled):
        name = "blind"
        signals = ("embedding",)

    from kdzoo.offers import check_class

    with pytest.raises(ValueError, match=r"'blind' modifies \['logits'\], and does not ask for them"):
        check_class(Blind)


class Against(Strategy):
    """A learned number whose gradient alone depends on a parameter."""

    name = "against"
    strength: float = param(1.0, "of the gradient", ge=0.0)

    def build(self, setup: Setup) -> None:
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Terms:
        shift = self.shift.detach() - self.strength * (self.shift - self.shift.detach())
        return {"gap": (student.logits - teacher.logits + shift).square().mean()}


def test_a_parameter_that_changes_a_gradient_of_the_strategys_own_alone_is_not_idle() -> None:
    *_, found = run_checks(Against, only=["parameters"])
    assert "no value that was tried" not in found.text
